"""The traffic that a plan expects, and which part of it falls to each arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import TrafficInvalid, nearest
from lepton_plugins.records.around import Around
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.routing.policy import Choice


def check_segments(spec: PlanSpec, answer: Choice) -> None:
    """TrafficInvalid where the plan file gives traffic to a segment that the policy doesn't make."""
    known = {segment for segment in answer.segments if segment is not None}
    for segment in spec.objective.traffic:
        if segment not in known:
            kind, close = spec.policy.kind, nearest(segment, known).rstrip(".")
            raise TrafficInvalid(
                f"found the segment {segment!r}, which policy {kind} doesn't make of the evaluation data.{close}"
            )


def parts_of(answer: Choice, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each arm's part of the policy's decisions, shape (arms,), by `weights` (rows,) of the evaluation rows."""
    cells = np.bincount(answer.cells, weights=weights, minlength=len(answer.vectors)) / weights.sum()
    parts: NDArray[np.float64] = cells @ answer.vectors
    return parts


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the wrappers around a policy make of its parts. `explored` are the arms that exploring units draw from."""

    around: Around
    default: str
    explored: Sequence[str]

    def part(self, version: str, part: float) -> float:
        """The arm's part of the traffic: the policy's, what it gets where units explore, the holdout's."""
        holdout, explore = self.around.holdout, self.around.explore
        held = holdout if version == self.default else 0.0
        drawn = explore / len(self.explored) if version in self.explored else 0.0
        return figure((1 - holdout) * ((1 - explore) * part + drawn) + held)


def figure(value: float) -> float:
    """Nine significant digits: sums whose last bits differ from machine to machine make the same plan."""
    return float(f"{value:.9g}")
