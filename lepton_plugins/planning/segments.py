"""Where the evaluation rows fell: a plan's segments, each with its traffic and its versions' shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.planned import SegmentShares
from lepton_plugins.routing.policy import Choice

#: What rows without a segment are shown as.
NO_SEGMENT = "–"
#: Vectors of one segment that are shown each; more are shown by their mean.
_VECTORS = 20


def segment_shares(answer: Choice, weights: NDArray[np.float64], names: Sequence[str]) -> tuple[SegmentShares, ...]:
    """The cells that the evaluation rows fell into, alike ones together, for display.

    Where a segment's rows each have a vector of their own, their mean.
    """
    rows = np.bincount(answer.cells, minlength=len(answer.vectors))
    traffic = np.bincount(answer.cells, weights=weights, minlength=len(answer.vectors)) / weights.sum()
    used = np.flatnonzero(rows).tolist()
    distinct = Counter(segment for segment, _ in {(answer.segments[c], answer.vectors[c].tobytes()) for c in used})
    many = {segment for segment, vectors in distinct.items() if vectors > _VECTORS}
    means: dict[str | None, tuple[float, ...]] = {}
    for segment in many:
        own = [cell for cell in used if answer.segments[cell] == segment]
        means[segment] = tuple((traffic[own] @ answer.vectors[own] / traffic[own].sum()).tolist())
    found: dict[tuple[str, tuple[float, ...]], SegmentShares] = {}
    for cell in used:
        segment = answer.segments[cell]
        vector = means[segment] if segment in means else tuple(answer.vectors[cell].tolist())
        key = (segment or NO_SEGMENT, vector)
        other, reason = found.get(key), answer.reasons[cell]
        found[key] = SegmentShares(
            segment=key[0],
            traffic=float(traffic[cell]) + (other.traffic if other else 0.0),
            rows=int(rows[cell]) + (other.rows if other else 0),
            shares={version: share for version, share in zip(names, vector, strict=True) if share > 0},
            reason=reason if other is None or other.reason == reason else "",
        )
    return tuple(found.values())
