"""What was in force before: the audit trail read as plans that lie on each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lepton_plugins.records.plan import Activation

Action = Literal["promote", "rollback", "pin", "unpin"]


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
