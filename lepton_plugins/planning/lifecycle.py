"""A plan's life: stored, put in force, taken back; each step leaves an entry in the audit trail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from lepton_plugins.errors import (
    AlreadyPinned,
    NothingToPromote,
    NothingToRollBack,
    NotPinned,
    PlanNotFound,
    RevisionAmbiguous,
)
from lepton_plugins.planning.past import Action, stack, unpinned
from lepton_plugins.planning.pin import pinned_plan
from lepton_plugins.planning.planned import PlannedDeployment
from lepton_plugins.records.plan import Activation, DeploymentPlan, PlanRevision
from lepton_plugins.registry import Registry
from lepton_plugins.user_name import user_name


def save(registry: Registry, planned: PlannedDeployment) -> PlanRevision:
    """Store a plan as a revision, not yet in force; the same plan is stored once."""
    return registry.save_plan(planned.plan, planned.files, planned.summary)


def promote(
    registry: Registry, model: str, revision: str | int | None = None, why: str = "", force: bool = False
) -> Activation:
    """Put a stored plan in force: a number, a digest (its beginning is enough), or the latest not yet promoted.

    PlanStale where the plan in force isn't the one that it was planned on, unless `force`; PromotionLost
    where a concurrent promotion stands; NothingToPromote; PlanNotFound.
    """
    in_force = registry.plan_in_force(model)
    if revision is not None:
        chosen = find(registry, model, revision)
    else:
        used = {entry.to_digest for entry in registry.list_activations(model)}
        floor = in_force.number if in_force is not None else 0
        newer = [item for item in registry.list_plans(model) if item.number > floor and item.digest not in used]
        if not newer:
            raise NothingToPromote(model, f"#{in_force.number}" if in_force is not None else None)
        chosen = newer[-1]
    plan = registry.get_plan(chosen)[0]
    return _activate(registry, "promote", chosen, plan, why, expected=plan.parent, force=force)


def rollback(registry: Registry, model: str, to: str | int | None = None, why: str = "") -> Activation:
    """Put the plan before back in force, or the revision `to`.

    "Before" follows what was promoted, not what was rolled back: a second rollback goes one further back,
    never forward again to what the first one left.
    """
    in_force = _in_force(registry, model)
    if to is not None:
        chosen = find(registry, model, to)
        if chosen.digest == in_force.digest:
            raise NothingToRollBack(model, f"revision #{chosen.number} is in force already")
    else:
        earlier = [digest for digest, _ in stack(registry.list_activations(model)) if digest != in_force.digest]
        if not earlier:
            raise NothingToRollBack(model, f"revision #{in_force.number} is the first that was put in force")
        chosen = _by_digest(registry, model, earlier[-1])
    return _activate(registry, "rollback", chosen, registry.get_plan(chosen)[0], why, expected=in_force.digest)


def pin(
    registry: Registry, model: str, version: str, why: str = "", *, trust: Literal["pickle"] | None = None
) -> Activation:
    """Send all traffic to one version (number or label), at once: a new revision of policy `weighted`.

    The other arms stay loaded, so that unpinning costs nothing and the fallback is there; what was held out
    is not any more. A version that isn't an arm yet is admitted as in a plan, with `trust` also one whose format
    runs code. NoArmLeft if it can't be;
    AlreadyPinned where it is this version that the plan in force pins.
    """
    name = registry.get_version(model, version).version
    in_force = registry.plan_in_force(model)
    if in_force is not None and stack(registry.list_activations(model))[-1:] == [(in_force.digest, "pin")]:
        arm = registry.get_plan(in_force)[0].arm(name)
        if arm is not None and arm.share == 1:
            raise AlreadyPinned(model, name, f"#{in_force.number}")
    planned = pinned_plan(registry, model, name, trust=trust)
    revision = save(registry, planned)
    return _activate(registry, "pin", revision, planned.plan, why, expected=planned.plan.parent)


def unpin(registry: Registry, model: str, why: str = "") -> Activation:
    """Put the plan that was in force before the pin back in force. NotPinned if none is."""
    in_force = registry.plan_in_force(model)
    entries = registry.list_activations(model)
    if in_force is None or stack(entries)[-1:] != [(in_force.digest, "pin")]:
        raise NotPinned(model, f"#{in_force.number}" if in_force is not None else None)
    below = unpinned(entries)
    if below is None:
        raise NothingToRollBack(model, "it was pinned before any plan was in force")
    chosen = _by_digest(registry, model, below)
    return _activate(registry, "unpin", chosen, registry.get_plan(chosen)[0], why, expected=in_force.digest)


def history(registry: Registry, model: str) -> list[Activation]:
    """The audit trail: what was put in force, when, by whom and why; oldest first."""
    return list(registry.list_activations(model))


def find(registry: Registry, model: str, revision: str | int | None = None) -> PlanRevision:
    """A stored revision by number (`3`, `#3`), else by the beginning of its digest; by default the latest.

    PlanNotFound, RevisionAmbiguous.
    """
    plans = registry.list_plans(model)
    if revision is None:
        if not plans:
            raise PlanNotFound(model)
        return plans[-1]
    revision = str(revision)
    wanted = revision.removeprefix("#")
    digest = wanted.removeprefix("sha256:")
    found = [stored for stored in plans if str(stored.number) == wanted]
    if not found and len(digest) >= 6:
        found = [stored for stored in plans if stored.digest.removeprefix("sha256:").startswith(digest)]
    if len(found) > 1:
        raise RevisionAmbiguous(model, revision, [f"#{item.number} ({item.digest[7:27]}…)" for item in found])
    if not found:
        raise PlanNotFound(model, revision)
    return found[0]


def _in_force(registry: Registry, model: str) -> PlanRevision:
    in_force = registry.plan_in_force(model)
    if in_force is None:
        raise PlanNotFound(model)
    return in_force


def _by_digest(registry: Registry, model: str, digest: str) -> PlanRevision:
    found = next((item for item in registry.list_plans(model) if item.digest == digest), None)
    if found is None:
        raise PlanNotFound(model, digest[:19])
    return found


def _activate(
    registry: Registry,
    action: Action,
    revision: PlanRevision,
    plan: DeploymentPlan,
    why: str,
    *,
    expected: str | None,
    force: bool = False,
) -> Activation:
    activation = Activation(
        model=revision.model,
        action=action,
        from_digest=expected,
        to_digest=revision.digest,
        to_number=revision.number,
        who=user_name(),
        why=why,
        evidence=_evidence(plan),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        forced=force,
    )
    return registry.activate(activation, expected, force=force)


def _evidence(plan: DeploymentPlan) -> dict[str, Any]:
    """What spoke for the plan when it was put in force."""
    return {
        "gain": plan.gain.model_dump(mode="json") if plan.gain is not None else None,
        "reports": [item.model_dump(mode="json") for item in plan.evidence],
        "warnings": len(plan.warnings),
    }
