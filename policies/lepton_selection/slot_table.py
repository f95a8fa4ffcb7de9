"""The slot table: 65,536 slots shared out among the arms, so that a change of shares moves few units."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

#: A draw's top 16 bits are its slot.
SLOTS = 65_536
SHIFT = 48

#: Runs of equal slots in order: [[version, length], …], lengths summing to SLOTS.
Runs = Sequence[Sequence[object]]


def apportion(shares: Mapping[str, float]) -> dict[str, int]:
    """Whole slots for shares, by largest remainder (Hamilton); they sum to SLOTS exactly.

    Each count is within one slot of its share; ties go to the version named first.
    """
    total = sum(shares.values())
    exact = {version: share / total * SLOTS for version, share in shares.items()}
    counts = {version: int(value) for version, value in exact.items()}
    by_remainder = sorted(exact, key=lambda version: counts[version] - exact[version])
    for version in by_remainder[: SLOTS - sum(counts.values())]:
        counts[version] += 1
    return counts


def assign(shares: Mapping[str, float], previous: Runs | None = None) -> list[list[str | int]]:
    """Slots by shares as runs; beside `previous` only as many slots change hands as the counts demand.

    No slot moves between two versions that both keep or lose slots. A version gives up the slots that
    border on the side where the gainers are in order, so that taking a change back restores the table.
    """
    answering = [version for version, share in shares.items() if share > 0]
    if len(answering) == 1:
        return [[answering[0], SLOTS]]
    counts = {version: count for version, count in apportion(shares).items() if count}
    order = {version: index for index, version in enumerate(shares)}
    names = list(counts)
    number = {version: index for index, version in enumerate(names)}
    table = np.full(SLOTS, -1, dtype=np.int64)
    if previous is not None:
        table = np.repeat(
            [number.get(str(version), -1) for version, _ in previous], [int(str(length)) for _, length in previous]
        )
    held = {version: int((table == number[version]).sum()) for version in names}
    gainers = [order[version] for version in names if counts[version] > held[version]]
    for version in names:
        surplus = held[version] - counts[version]
        if surplus > 0:
            own = np.flatnonzero(table == number[version])
            upwards = sum(position > order[version] for position in gainers) * 2 >= len(gainers)
            table[own[-surplus:] if upwards else own[:surplus]] = -1
    free = np.flatnonzero(table < 0)
    start = 0
    for version in names:
        wanted = counts[version] - min(held[version], counts[version])
        table[free[start : start + wanted]] = number[version]
        start += wanted
    bounds = np.flatnonzero(np.diff(table)) + 1
    starts = [0, *bounds.tolist()]
    ends = [*bounds.tolist(), SLOTS]
    return [[names[int(table[a])], b - a] for a, b in zip(starts, ends, strict=True)]


class SlotTable:
    """Runs as they are served: the arm's index for every slot, and the exact propensities."""

    __slots__ = ("array", "row", "vector")

    def __init__(self, runs: Runs, arms: Sequence[str]) -> None:
        index = {version: position for position, version in enumerate(arms)}
        lengths = [int(str(length)) for _, length in runs]
        if sum(lengths) != SLOTS:
            raise ValueError(f"slot table: found {sum(lengths)} slots, expected {SLOTS}")
        positions = [index[str(version)] for version, _ in runs]
        self.array: NDArray[np.intp] = np.repeat(np.asarray(positions, dtype=np.intp), lengths)
        # bytes and array index in about 20 ns, a numpy array in 100.
        self.row: bytes | array[int] = (
            self.array.astype(np.uint8).tobytes() if len(arms) <= 256 else array("L", self.array.tolist())
        )
        self.vector: tuple[float, ...] = tuple((np.bincount(self.array, minlength=len(arms)) / SLOTS).tolist())

    def choose(self, draws: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The arm of each draw, shape (rows,)."""
        chosen: NDArray[np.intp] = self.array[(draws >> np.uint64(SHIFT)).astype(np.intp)]
        return chosen
