"""Quantile bins of a number, as the values of a segment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Bins:
    """Half-open intervals between `edges`, the first and the last without end: live values go beyond the evaluated."""

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = [float(edge) for edge in edges]
        shown = _shown(self.edges)
        inner = [f"[{low}, {high})" for low, high in pairwise(shown)]
        self.labels = [f"< {shown[0]}", *inner, f"≥ {shown[-1]}"] if shown else ["any number"]
        self._labels = np.array([*self.labels, None], dtype=object)

    @classmethod
    def found_in(cls, column: NDArray[Any], count: int) -> Bins | None:
        """At most `count` bins of about the same number of rows; None where the column holds no numbers."""
        numbers = _numbers(column)
        there = numbers[np.isfinite(numbers)]
        if not len(there):
            return None
        # Quantiles that are values of the column: edges that people recognise.
        edges = np.unique(np.quantile(there, np.arange(1, count) / count, method="lower"))
        return cls(edges[edges > there.min()].tolist())

    def column(self, column: NDArray[Any]) -> NDArray[Any]:
        """Each row's bin as text, shape (rows,); None where there is no number."""
        numbers = _numbers(column)
        place = np.searchsorted(self.edges, numbers, side="right")
        labels: NDArray[Any] = self._labels[np.where(np.isnan(numbers), len(self.labels), place)]
        return labels

    def codes(self, column: NDArray[Any], known: Mapping[str, int]) -> NDArray[np.intp]:
        """Each row's bin by its code in `known`, shape (rows,); -1 unknown, -2 no number."""
        numbers = _numbers(column)
        table = np.array([*(known.get(label, -1) for label in self.labels), -2], dtype=np.intp)
        place = np.searchsorted(self.edges, numbers, side="right")
        codes: NDArray[np.intp] = table[np.where(np.isnan(numbers), len(self.labels), place)]
        return codes

    def one(self, value: Any) -> str | None:
        """One value's bin; the same as `column` on a column of it."""
        if type(value) is not float:
            value = _number(value)
        return None if value != value else self.labels[bisect_right(self.edges, value)]


def _numbers(column: NDArray[Any]) -> NDArray[np.float64]:
    if column.dtype.kind in "biuf":
        return column.astype(np.float64)
    return np.array([_number(value) for value in column.tolist()], dtype=np.float64)


def _number(value: Any) -> float:
    if not isinstance(value, int | float | np.number | np.bool_):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _shown(edges: Sequence[float]) -> list[str]:
    """As few digits as tell the edges apart."""
    for digits in (3, 4, 6, 9, 17):
        shown = [f"{int(e)}" if e.is_integer() and abs(e) < 1e15 else f"{e:.{digits}g}" for e in edges]
        if len(set(shown)) == len(edges):
            break
    return shown
