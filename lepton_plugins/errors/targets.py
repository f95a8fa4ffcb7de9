"""What a target cannot render as asked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lepton_plugins.errors.base import LeptonError, _shown, nearest


class PlaceTaken(LeptonError):
    """A directory to render into that holds something which isn't what was rendered there before."""

    code = "place_taken"

    def __init__(self, to: object, found: str, added: Sequence[str] = (), changed: Sequence[str] = ()) -> None:
        since = [
            f"{word} since: {_shown(files, 3)}" for word, files in (("added", added), ("changed", changed)) if files
        ]
        detail = f" ({'; '.join(since)})" if since else ""
        super().__init__(
            f"--to {to}: found {found}{detail}, expected a new directory, an empty one, or what Lepton rendered there "
            "and nobody changed. Name another, or move yours away."
        )


class PlaceUnwritable(LeptonError):
    """A directory to render into that the system doesn't let be written."""

    code = "place_unwritable"

    def __init__(self, to: object, error: OSError) -> None:
        # What copies a tree gives a list of (from, to, reason).
        listed = error.args[0] if error.args and isinstance(error.args[0], list) else ()
        reason = error.strerror or re.sub(r"^\[Errno \d+\] |: '.*$", "", str(listed[0][-1] if listed else error))
        super().__init__(f"--to {to}: can't be written: {reason}. Name a directory with room that you may write.")


class RequirementsConflict(LeptonError):
    """Versions of one plan that can't be installed together."""

    code = "requirements_conflict"

    def __init__(self, conflicts: Sequence[str]) -> None:
        super().__init__(
            f"The requirements can't be met by one environment. {'; '.join(conflicts)}. "
            "Log one of the versions again with the other's packages, or leave it out of the plan."
        )


class RequirementInvalid(LeptonError):
    """A line of requirements that can't go into an artefact."""

    code = "requirement_invalid"

    def __init__(self, side: str, line: str) -> None:
        super().__init__(
            f"The requirements of {side}: found {line[:200]!r}, expected a package with its version such as "
            "scikit-learn==1.6.1; files, folders and addresses don't travel with an artefact."
        )


class LeptonNotRequired(LeptonError):
    """A requirement in the place of Lepton's packages that wouldn't install Lepton."""

    code = "lepton_not_required"

    def __init__(self, line: str, lepton: str) -> None:
        super().__init__(
            f"lepton_requirement: found {line[:200]!r}, expected {lepton}, such as {lepton}==0.1.0, or a package that "
            "is installed here and requires it. Leave the option out to embed Lepton's packages."
        )


class RequirementsUnpinned(LeptonError):
    """Packages whose version an artefact can't name: nobody pins them, and none that fits is installed here."""

    code = "requirements_unpinned"

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(
            f"An artefact's requirements are pinned: found {', '.join(lines)}, which no side pins and of which no "
            "fitting version is installed here. Install it here, or pin it in the version's own requirements, such as "
            "skops==0.11."
        )


class EnvironmentUnknown(LeptonError):
    """A version that doesn't say which packages it needs."""

    code = "environment_unknown"

    def __init__(self, version: str) -> None:
        super().__init__(
            f"Version {version} has no requirements.txt, so what it needs isn't known. "
            "Name it: --option requirements=scikit-learn==1.6.1,skops==0.11"
        )


class SourceNotPullable(LeptonError):
    """Files of a version that lie where a cluster can't get them."""

    code = "source_not_pullable"

    def __init__(self, version: str, address: str) -> None:
        scheme = address.partition(":")[0][:40] if ":" in address else "a local path"
        super().__init__(
            f"Version {version}: its files are at an address that a cluster can't pull from (found {scheme}; expected "
            "s3, gs, pvc, hdfs, hf, oci or Azure's https, without a password). Let them be copied where it can: "
            "--upload s3://bucket/models, or --upload pvc://claim/models --mount DIR. If they are there already as "
            "`lepton pull` lays them out: --models s3://bucket/models"
        )


class ClaimNotMounted(LeptonError):
    """An upload into a PersistentVolumeClaim from where it isn't mounted."""

    code = "claim_not_mounted"

    def __init__(self, address: str, mount: object) -> None:
        claim, _, folder = address.removeprefix("pvc://").partition("/")
        found = "no --mount" if mount is None else f"--mount {mount}, which is no folder"
        super().__init__(
            f"--upload {address}: a claim is written to where it is mounted (found {found}). In a pod or notebook that "
            f"mounts {claim!r}: --mount DIR. From elsewhere: lepton pull NAME --to deployment; kubectl cp "
            f"deployment/models POD:MOUNT/{folder or 'models'}, with a pod that mounts it; then --models {address}"
        )


class UploadFailed(LeptonError):
    """Files that could not be copied to a storage."""

    code = "upload_failed"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"Nothing was rendered: copying to {address} failed: {reason}. Check the address, and that you may write "
            "there."
        )


class ManifestInvalid(LeptonError):
    """A manifest that a cluster would refuse."""

    code = "manifest_invalid"

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("KServe would refuse this manifest. " + "; ".join(findings))


class PlanTooLargeForTarget(LeptonError):
    """A plan beyond what the target can carry."""

    code = "plan_too_large_for_target"

    def __init__(self, target: str, size: int, limit: int) -> None:
        super().__init__(
            f"The plan and its policy's files have {size:,} bytes; {target} carries at most {limit:,}. "
            "Plan with fewer segments or a smaller policy."
        )


class ConfigKeyUnknown(LeptonError):
    """A key that what reads the configuration would drop without a word."""

    code = "config_key_unknown"

    def __init__(self, what: str, key: str, known: Iterable[str]) -> None:
        super().__init__(f"{what} has no key {key!r}; it would be dropped without a word.{nearest(key, known)}")


class BentoServiceUnavailable(LeptonError):
    """A service of the same bento that doesn't answer."""

    code = "peer_unavailable"
    http_status = 503

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(f"The bento's service {service} can't be asked: {reason}.")


class BentoModelMissing(LeptonError):
    """A version whose files are neither beside the plan nor in BentoML's model store."""

    code = "bento_model_missing"

    def __init__(self, version: str, tag: str) -> None:
        super().__init__(
            f"Version {version}: its files are neither in the deployment directory nor, as {tag}, in BentoML's model "
            f"store. Put them there: bentoml models pull {tag}, or run lepton generate again."
        )


class BentoModelChanged(LeptonError):
    """A model in BentoML's store whose files aren't those that its name says."""

    code = "bento_model_changed"

    def __init__(self, tag: str, found: str) -> None:
        super().__init__(
            f"BentoML's model {tag} was changed: its files have the digest {found[:19]}…, expected the one that its "
            f"version says. Remove it, and build again: bentoml models delete {tag}"
        )
