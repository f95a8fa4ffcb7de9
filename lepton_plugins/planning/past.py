"""What was in force before: the audit trail read as plans that lie on each other."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lepton_plugins.errors import VersionNotFound
from lepton_plugins.records.plan import Activation, DeploymentPlan, PolicyDocument
from lepton_plugins.registry import Registry

Action = Literal["promote", "rollback", "pin", "unpin"]
#: Aliases that tell the default arm, in this order.
_ALIASES = ("champion", "lepton-champion")


@dataclass(frozen=True, slots=True)
class Before:
    """What a new plan follows. `salt` is the model's, kept across revisions."""

    plan: DeploymentPlan | None
    """The plan in force."""
    policy: PolicyDocument | None
    """The policy that assigned units last; a pin's doesn't count."""
    salt: str


def before(registry: Registry, model: str) -> Before:
    """The plan in force; the salt of any earlier plan, else a new one."""
    in_force, stored = registry.plan_in_force(model), registry.list_plans(model)
    if in_force is None:
        return Before(None, None, registry.get_plan(stored[-1])[0].salt if stored else secrets.token_hex(16))
    plan = registry.get_plan(in_force)[0]
    below = unpinned(registry.list_activations(model))
    revision = next((item for item in stored if item.digest == below), None)
    assigning = plan if revision is None or below == plan.digest else registry.get_plan(revision)[0]
    return Before(plan, assigning.policy, plan.salt)


def champion(registry: Registry, model: str) -> str | None:
    """The version that an alias names as champion: the user's own, else Lepton's."""
    for alias in _ALIASES:
        try:
            return registry.get_version(model, f"@{alias}").version
        except VersionNotFound:
            continue
    return None


def stack(entries: Sequence[Activation]) -> list[tuple[str, Action]]:
    """The plans below each other, the one in force last: a rollback or unpin takes off what lies above."""
    found: list[tuple[str, Action]] = []
    for entry in entries:
        digests = [digest for digest, _ in found]
        if entry.action in ("rollback", "unpin") and entry.to_digest in digests:
            place = len(digests) - 1 - digests[::-1].index(entry.to_digest)
            del found[place + 1 :]
        elif not found or found[-1][0] != entry.to_digest:
            found.append((entry.to_digest, entry.action))
    return found


def unpinned(entries: Sequence[Activation]) -> str | None:
    """The digest of the plan in force, pins left aside; None if there never was one."""
    return next((digest for digest, action in reversed(stack(entries)) if action != "pin"), None)
