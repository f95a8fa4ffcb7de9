"""Context columns as numbers for a reward model: an intercept, frequent values, numbers by quantile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Values of a column that get a coefficient of their own: the most frequent ones.
MOST_VALUES = 30
#: Quantile bins of a column of numbers.
BINS = 4


def design(context: Mapping[str, NDArray[Any]], rows: int) -> Floats:
    """Shape (rows, d): the first column is 1; missing values have zeros in their column's part."""
    parts = [np.ones((rows, 1))]
    for values in context.values():
        numeric = _numbers(values)
        parts.append(_frequent(values) if numeric is None else _by_quantile(numeric))
    return np.concatenate(parts, axis=1)


def _numbers(values: NDArray[Any]) -> Floats | None:
    """The column as float64 where it holds more than a few different numbers; None where it is a category."""
    if values.dtype.kind == "O":
        known = [value for value in values if value is not None]
        if not known or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
            return None
        values = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    if values.dtype.kind not in "iuf":
        return None
    numbers = values.astype(np.float64)
    return numbers if len(np.unique(numbers[np.isfinite(numbers)])) > MOST_VALUES else None


def _frequent(values: NDArray[Any]) -> Floats:
    texts = np.array(["" if _missing(value) else f"={value}" for value in values.tolist()], dtype=object)
    found, codes, counts = np.unique(texts, return_inverse=True, return_counts=True)
    kept = [index for index in np.argsort(-counts, kind="stable").tolist() if found[index]][:MOST_VALUES]
    # The most frequent is what the intercept stands for.
    indicators: Floats = (codes[:, None] == np.array(kept[1:], dtype=np.intp)[None, :]).astype(np.float64)
    return indicators


def _missing(value: Any) -> bool:
    return value is None or value != value


def _by_quantile(numbers: Floats) -> Floats:
    finite = np.isfinite(numbers)
    edges = np.unique(np.quantile(numbers[finite], np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.digitize(numbers, edges)
    scale = float(numbers[finite].std()) or 1.0
    linear = np.where(finite, (numbers - numbers[finite].mean()) / scale, 0.0)
    return np.concatenate(
        [linear[:, None], ((bins[:, None] == np.arange(1, len(edges) + 1)) & finite[:, None]).astype(np.float64)],
        axis=1,
    )
