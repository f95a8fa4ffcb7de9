"""Averages over classes, whose interval comes from the intervals of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition, significant, tally

FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class Layer:
    """Influence (n,) of each row on the metric of one class: `classes` (n,) says which.

    A row that touches several classes has one entry in each of several layers.
    """

    classes: NDArray[np.intp]
    influence: FloatArray


@dataclass(slots=True)
class Components:
    """A metric of each class, shapes (classes, slices); NaN where a slice lacks the class.

    `errors` are the standard errors, by `class_variances` of the layers. `size` and `grain` are for metrics
    of counts: each class's number of rows, and the square of a single row's influence (see Measurement).
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    errors: FloatArray
    layers: Sequence[Layer]
    size: FloatArray | None = None
    grain: FloatArray | float = 0.0


def class_variances(partition: Partition, layers: Sequence[Layer], classes: int) -> FloatArray:
    """The variance of each class's metric, (classes, slices)."""
    factor = partition.units / np.maximum(partition.units - 1, 1)
    squares = np.zeros(classes * partition.size)
    for layer in layers:
        cell = layer.classes * partition.size + partition.codes
        squares += tally(cell, layer.influence**2, squares.size)
    by_row = squares.reshape(classes, partition.size)
    if partition.unit_of_row is None:
        return by_row * factor
    count = partition.slice_of_unit.size
    sums = np.zeros(classes * count)
    for layer in layers:
        cell = layer.classes * count + partition.unit_of_row
        sums += tally(cell, layer.influence, sums.size)
    by_unit = np.stack([partition.sum_units(row * row) for row in sums.reshape(classes, count)])
    return significant(by_unit * factor, by_row)


def macro(partition: Partition, components: Components, method: str, undefined: str, at_least: int = 2) -> Measurement:
    """The mean of the classes that a slice has, by MOVER (Zou 2007): the classes' distances to their
    limits are added as standard errors are, with the correlations of the estimates. NaN where a slice
    has fewer than `at_least` classes.
    """
    present = ~np.isnan(components.value)
    count = present.sum(axis=0)
    weight = np.where(present, 1 / np.maximum(count, 1), 0.0)
    mean = (weight * np.nan_to_num(components.value)).sum(axis=0)
    spread = components.errors > 0
    scale = np.where(spread, components.errors, 1.0)

    def rows(factors: FloatArray) -> FloatArray:
        total = np.zeros(partition.codes.size)
        for layer in components.layers:
            total += factors[layer.classes, partition.codes] * layer.influence
        return total

    def distance(to: FloatArray) -> FloatArray:
        parts = weight * np.nan_to_num(np.abs(to - components.value))
        # A class at 0 or 1 shows no spread, hence no correlation: its distance is added in quadrature.
        alone = np.where(spread, 0.0, parts**2).sum(axis=0)
        together = partition.variance(rows(np.where(spread, parts / scale, 0.0)))
        return np.asarray(np.sqrt(together + alone), dtype=np.float64)

    return Measurement(
        value=np.where(count >= at_least, mean, np.nan),
        low=mean - distance(components.low),
        high=mean + distance(components.high),
        n=partition.rows,
        method=method,
        undefined=undefined,
        influence=lambda: rows(weight),
        grain=_grain(weight, components),
    )


def _grain(weight: FloatArray, components: Components) -> FloatArray | float:
    """One row's, whose class is drawn by the classes' sizes."""
    if components.size is None:
        return 0.0
    part = components.size / np.maximum(components.size.sum(axis=0), 1)
    return np.asarray((part * weight**2 * components.grain).sum(axis=0), dtype=np.float64)
