"""Rows cut into slices, and the units within them that a variance adds up over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def tally(cells: NDArray[Any], weights: NDArray[Any] | None, size: int) -> FloatArray:
    """Sums of `weights` (of ones where None) by cell, float64 (size,)."""
    return np.asarray(np.bincount(cells, weights=weights, minlength=size), dtype=np.float64)


def significant(variance: FloatArray, squares: FloatArray) -> FloatArray:
    """`variance` without what rounding leaves where units' sums cancel; `squares` = Σ_rows ψ²."""
    return np.where(variance > 1e-20 * squares, variance, 0.0)


def unit_numbers(groups: NDArray[Any]) -> NDArray[np.intp]:
    """Units of any type (texts, numbers) as numbers from 0, in the order of their first row."""
    groups = np.asarray(groups)
    if groups.dtype.kind in "iub":
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        position = np.empty_like(first)
        position[np.argsort(first)] = np.arange(first.size)
        return np.asarray(position[inverse.reshape(-1)], dtype=np.intp)
    listed = groups.tolist()
    known = {value: number for number, value in enumerate(dict.fromkeys(listed))}
    return np.fromiter((known[value] for value in listed), dtype=np.intp, count=len(listed))


class Partition:
    """n rows in disjoint slices. All results have one entry a slice, shape (size,).

    `codes` (n,) is each row's slice. `groups` (n,) numbers the unit that a row belongs to (a user, a
    session; see unit_numbers): rows of one unit may depend on each other, units are independent. Without it each
    row is a unit. A statistic is given by its rows' influence ψ, in units of the statistic itself (they
    sum to about zero in a slice); its variance is Σ_units (Σ_rows ψ)² · G / (G - 1) for G units: the
    delta method's, cluster-robust (Huber 1967; Liang & Zeger 1986).
    """

    def __init__(self, codes: NDArray[Any], size: int, groups: NDArray[np.intp] | None = None) -> None:
        self.codes = codes
        self.size = size
        self.rows = np.bincount(codes, minlength=size)
        self.clustered = groups is not None
        if groups is None:
            self.unit_of_row: NDArray[np.intp] | None = None
            self.slice_of_unit = codes
            self.units = self.rows
        else:
            members, unit_of_row = np.unique(groups * size + codes, return_inverse=True)
            self.unit_of_row = unit_of_row.reshape(-1)
            self.slice_of_unit = members % size
            self.units = np.bincount(self.slice_of_unit, minlength=size)

    @classmethod
    def whole(cls, rows: int, groups: NDArray[np.intp] | None = None) -> Partition:
        """All rows as one slice."""
        return cls(np.zeros(rows, dtype=np.intp), 1, groups)

    def sum(self, values: NDArray[Any]) -> FloatArray:
        """Sums of a row value, (size,)."""
        return tally(self.codes, values, self.size)

    def mean(self, values: NDArray[Any]) -> FloatArray:
        """Means of a row value; NaN in an empty slice."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.sum(values) / self.rows

    def unit_sums(self, values: FloatArray) -> FloatArray:
        """Sums of a row value within each unit, (units in all slices,)."""
        if self.unit_of_row is None:
            return values
        return tally(self.unit_of_row, values, self.slice_of_unit.size)

    def sum_units(self, values: FloatArray) -> FloatArray:
        """Sums of a unit value by slice."""
        return tally(self.slice_of_unit, values, self.size)

    def units_with(self, rows: NDArray[np.bool_]) -> NDArray[np.intp]:
        """How many units have one of these rows, by slice."""
        touched = self.unit_sums(rows.astype(np.float64)) > 0
        return np.bincount(self.slice_of_unit[touched], minlength=self.size)

    def variance(self, influence: FloatArray) -> FloatArray:
        """Variance of a statistic from its influence; exactly 0 where the units show none."""
        return significant(self.covariance(influence, influence), self.sum(influence * influence))

    def covariance(self, one: FloatArray, other: FloatArray) -> FloatArray:
        """Covariance of two statistics from their influences; 0 where there is one unit only."""
        first = self.unit_sums(one)
        second = first if other is one else self.unit_sums(other)
        return self.sum_units(first * second) * self.units / np.maximum(self.units - 1, 1)
