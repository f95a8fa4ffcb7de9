"""What a plan says of each segment: who answers there, by which figures and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.routing.policy import Proposal
from lepton_selection.segments import Segments
from lepton_selection.slot_table import assign

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions


def cells_of(
    proposal: Proposal,
    shares: NDArray[np.float64],
    paired: PairedPredictions,
    arms: Sequence[str],
    before: Mapping[tuple[str, ...], Any],
) -> list[dict[str, Any]]:
    """A cell for each segment; `before` are the slots that the values had, kept as far as may be."""
    segments: Segments = proposal.detail["segments"]
    cells = []
    for cell, value in enumerate(segments.values):
        wanted = {
            version: share
            for version, share in zip(paired.versions, shares[cell].tolist(), strict=True)
            if version in arms
        }
        candidates = {
            version: [
                _figure((proposal.utility[cell, i] - proposal.utility[cell, paired.default]) / paired.unit),
                _figure(proposal.detail["low"][cell, i] / paired.unit),
            ]
            for i, version in enumerate(paired.versions)
            if i != paired.default and version in arms
        }
        able = [paired.versions[int(i)] for i in np.flatnonzero(proposal.allowed[cell]) if i != paired.default]
        cells.append(
            {
                "value": list(value),
                "rows": int(proposal.detail["rows"][cell]),
                "slots": assign(wanted, before.get(value)),
                "candidates": candidates,
                "reason": _reason(segments.names[cell], wanted, paired.versions[paired.default], able),
            }
        )
    return cells


def _figure(value: float) -> float:
    """Six significant digits: enough to read, and the same on machines whose sums round differently."""
    return float(f"{value:.6g}")


def _reason(segment: str, shares: Mapping[str, float], default: str, able: Sequence[str]) -> str:
    answering = [version for version, share in shares.items() if share > 0]
    if answering != [default]:
        return f"best in {segment}" if len(answering) == 1 else f"best in {segment} within the budget"
    if able:
        return f"default: {', '.join(able)} better in {segment}, but not worth it or not within the budget"
    return f"default: nothing proved better in {segment}"
