"""What the router decided for a row, and what became of it."""

from __future__ import annotations

from typing import Any

from lepton_plugins.records.record import Record


class Decision(Record):
    """One row's decision. Off-policy evaluation uses `chosen`; latency and errors belong to `served`.

    `id` is `<request>/<row>`. `draw` is the 64-bit number that the choice was made with: with the
    context and the plan it replays the choice exactly. `propensity` lists each arm's probability of
    being chosen, in the plan's order of arms. Forced and fallback rows don't train a policy.
    Versions are text as the plan has them: no number is brought to text for each row.
    """

    id: str
    time: float
    plan: str
    key: str | None = None
    """Keyed hash of the unit's key (the sticky key), never the key itself."""
    context: dict[str, Any] = {}
    segment: str | None = None
    chosen: str
    served: str
    propensity: tuple[float, ...]
    draw: int
    state: str | None = None
    """Revision of the learning state, for policies that learn."""
    reason: str
    forced: bool = False
    fallback: str | None = None
    """Why another arm answered than the chosen one: an error's code."""
    shadows: tuple[str, ...] = ()
    consulted: bool = False
    """Made from several versions' answers (ensemble, cascade): the propensity holds given these answers, and
    supports no estimate of what another plan would have done."""


class Feedback(Record):
    """What became of a decision: a reward, or a label from which a metric makes the reward."""

    decision: str
    reward: float | None = None
    label: str | float | int | bool | None = None
    time: float | None = None
