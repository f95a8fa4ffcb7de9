"""Context columns as a matrix of numbers, by a declared encoding: numbers as they are, text by its frequent values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_selection.segments import Segments

#: Values of a text column that get a column of their own: the most frequent ones, each with this many rows.
_LEVELS, _ROWS = 32, 20

#: {"name", "kind": "number", "fill"} or {"name", "kind": "text", "levels"}
Column = Mapping[str, Any]


def declare(names: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """An encoding of these columns, from the values in them."""
    declared: list[dict[str, Any]] = []
    for name in names:
        column = columns[name]
        numbers, finite = _numbers(column)
        present = [value is not None for value in column.tolist()] if column.dtype == object else finite
        if finite.any() and finite[np.asarray(present, dtype=bool)].all():
            fill = float(np.median(numbers[finite]))
            declared.append({"name": name, "kind": "number", "fill": float(f"{fill:.9g}")})
            continue
        segments = Segments.found_in([name], columns)
        counts = np.bincount(segments.find(columns, len(column)), minlength=segments.unknown)[: segments.unknown]
        order = np.argsort(-counts, kind="stable")[:_LEVELS]
        levels = [segments.values[int(i)][0] for i in order if counts[i] >= _ROWS]
        declared.append({"name": name, "kind": "text", "levels": levels})
    return declared


class Encoder:
    """Encodes batches as (rows, width) float32; a missing number is filled and flagged, a rare text is all zeros."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        self._segments = {
            column["name"]: Segments([column["name"]], [[level] for level in column["levels"]])
            for column in columns
            if column["kind"] == "text"
        }
        self.width = sum(2 if column["kind"] == "number" else len(column["levels"]) + 1 for column in columns)

    def encode(self, context: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float32]:
        matrix = np.zeros((rows, self.width), dtype=np.float32)
        at = 0
        for column in self._columns:
            name = column["name"]
            if column["kind"] == "number":
                if name in context:
                    numbers, finite = _numbers(context[name])
                    matrix[:, at] = np.where(finite, numbers, column["fill"])
                    matrix[:, at + 1] = ~finite
                else:
                    matrix[:, at : at + 2] = column["fill"], 1.0
                at += 2
                continue
            segments = self._segments[name]
            cells = segments.find(context, rows)
            known = cells < segments.unknown
            matrix[np.flatnonzero(known), at + cells[known]] = 1.0
            matrix[cells == segments.missing, at + segments.unknown] = 1.0
            at += segments.unknown + 1
        return matrix


def _numbers(column: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Numbers (rows,), and which of them are finite in single precision; what is no number isn't."""
    if column.dtype.kind in "biuf":
        numbers = column.astype(np.float64)
    else:
        found = [value if isinstance(value, int | float) else np.nan for value in column.tolist()]
        numbers = np.array([float(value) if abs(value) < 1e30 else np.nan for value in found], dtype=np.float64)
    finite: NDArray[np.bool_] = np.abs(numbers) < 1e30
    return numbers, finite
