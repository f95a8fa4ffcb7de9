"""Decisions in which a new plan may choose what the logged one never would have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.replay.logged import Logged
from lepton_plugins.replay.report import Unsupported


def unsupported(lacks: NDArray[np.bool_], rows: Logged, names: Sequence[str]) -> tuple[Unsupported, ...]:
    found: dict[tuple[str, str | None], int] = {}
    for row, arm in zip(*np.nonzero(lacks), strict=True):
        place = (names[arm], rows.segments[row])
        found[place] = found.get(place, 0) + 1
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return tuple(Unsupported(version=version, segment=segment, decisions=n) for (version, segment), n in ordered)


def without_support(found: Sequence[Unsupported], lacks: NDArray[np.bool_], rows: Logged) -> str:
    first = found[0]
    where = f" in segment {first.segment}" if first.segment is not None else ""
    never = sorted({item.version for item in found if item.version not in rows.versions})
    told = (
        f"in {int(lacks.any(axis=1).sum()):,} of {len(rows):,} decisions the new plan may choose a version that the "
        f"logged plan gave no chance, such as version {first.version}{where} ({first.decisions:,})."
    )
    if never:
        told += f" Version {', '.join(never)} isn't in the log at all."
    return f"{told} Serve a plan with `around: {{explore: 0.05}}` that has these versions first."
