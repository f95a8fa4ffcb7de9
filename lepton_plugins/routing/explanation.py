"""Why a row goes where it goes."""

from __future__ import annotations

from typing import Any

from lepton_plugins.records.record import Record
from lepton_plugins.routing.policy import Candidate


class Step(Record):
    """One layer of the stack: guard, holdout, sticky, policy, fallback or shadow, and what it did."""

    name: str
    outcome: str
    decides: bool = False
    """Whether this layer settled the arm."""


class Explanation(Record):
    """A decision with everything it rests on: the stack in its order, and every arm with why it won or lost."""

    model: str
    plan: str
    chosen: str
    label: str | None = None
    reason: str
    segment: str | None = None
    context: dict[str, Any] = {}
    key: str | None = None
    """Keyed hash of the unit's key."""
    draw: int
    slot: int
    """Which of the 65,536 slots the draw falls into."""
    propensity: tuple[float, ...]
    stack: tuple[Step, ...]
    candidates: tuple[Candidate, ...]
