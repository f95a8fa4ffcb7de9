"""Plan revisions: finding them, putting them in force, taking them back."""

from __future__ import annotations

from collections.abc import Sequence

from lepton_plugins.errors.base import LeptonError


class PlanNotFound(LeptonError):
    """No such plan revision, or none in force."""

    code = "plan_not_found"
    http_status = 404

    def __init__(self, model: str, revision: str | None = None) -> None:
        which = f"no plan revision {revision}" if revision else "no plan in force"
        super().__init__(f"Model {model!r} has {which}. `lepton history {model}` lists the revisions.")


class RevisionAmbiguous(LeptonError):
    """The beginning of a digest with which several plan revisions' digests begin."""

    code = "revision_ambiguous"

    def __init__(self, model: str, revision: str, found: Sequence[str]) -> None:
        super().__init__(
            f"Model {model!r} has several plan revisions that begin with {revision}: {', '.join(found)}. "
            f"Give the number, or more of the digest."
        )


class NothingToPromote(LeptonError):
    """No revision newer than the plan in force."""

    code = "nothing_to_promote"
    exit_code = 1

    def __init__(self, model: str, in_force: str | None) -> None:
        newest = f"revision {in_force} is in force and the newest" if in_force else "there is no plan yet"
        super().__init__(f"Model {model!r} has nothing to promote: {newest}. Run: lepton plan {model} -f plan.yaml")


class PlanStale(LeptonError):
    """The plan in force isn't the parent of the one to be promoted."""

    code = "plan_stale"
    exit_code = 1

    def __init__(self, model: str, revision: str, parent: str, in_force: str) -> None:
        super().__init__(
            f"Revision {revision} of {model!r} was planned on top of {parent}, but {in_force} is in force now. "
            f"Plan again, or pass --force to put it in force all the same."
        )


class PromotionLost(LeptonError):
    """Another promotion was written at the same time and stands."""

    code = "promotion_lost"
    exit_code = 1

    def __init__(self, model: str, revision: str, winner: str) -> None:
        super().__init__(
            f"Revision {revision} of {model!r} was not put in force: {winner} was promoted at the same time and "
            f"stands. Plan again on top of it."
        )


class PromotionUnpublished(LeptonError):
    """A promotion that is in the audit trail, while the registry didn't take the tag that names it."""

    code = "promotion_unpublished"

    def __init__(self, model: str, revision: str, reason: str) -> None:
        super().__init__(
            f"Revision {revision} of {model!r} was put in force, but the tag that says so could not be written. "
            f"{reason} The next promotion sets it, or `lepton doctor`."
        )


class NothingToRollBack(LeptonError):
    """No earlier plan to go back to."""

    code = "nothing_to_roll_back"
    exit_code = 1

    def __init__(self, model: str, found: str) -> None:
        super().__init__(
            f"Model {model!r} can't be rolled back: {found}. `lepton history {model}` lists the revisions."
        )


class AlreadyPinned(LeptonError):
    """Pinning the version that the plan in force pins."""

    code = "already_pinned"
    exit_code = 1

    def __init__(self, model: str, version: str, in_force: str) -> None:
        super().__init__(
            f"Model {model!r} is pinned to version {version} already, by revision {in_force}. Nothing was stored. "
            f"`lepton pin {model} --off` ends it."
        )


class NotPinned(LeptonError):
    """Unpinning a model whose plan in force isn't a pin."""

    code = "not_pinned"
    exit_code = 1

    def __init__(self, model: str, in_force: str | None) -> None:
        found = f"revision {in_force}, which isn't a pin" if in_force else "no plan in force"
        super().__init__(f"Model {model!r} isn't pinned: found {found}.")
