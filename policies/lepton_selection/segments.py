"""Segments: rows that agree in the columns `by`, found for a batch or for one row alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import ColumnMissing, TooManySegments
from lepton_selection.bins import Bins

#: More segments than this are no table any more but a model.
LIMIT = 10_000


def canonical(value: Any) -> str | None:
    """One text for a value, wherever it comes from: 1, 1.0 and "1" are the same segment. None: missing."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return str(value)
    if value is None:
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.generic):
        value = value.astype("datetime64[us]").item() if isinstance(value, np.datetime64) else value.item()
        return canonical(value)
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime):
        return value.isoformat() if value == value else None
    # pandas' NA is neither equal nor unequal to anything, and pandas isn't imported where rows are served.
    return None if type(value).__name__ == "NAType" else str(value)


def segment_name(values: Sequence[str]) -> str:
    """`UA`, or `UA,JFK` for crossed columns (a comma inside a value is written `\\,`)."""
    return values[0] if len(values) == 1 else ",".join(value.replace(",", "\\,") for value in values)


class Segments:
    """Known segments by their values. `unknown` and `missing` are the cells after the last known one.

    A column that has `bins` goes by those instead of its values.
    """

    def __init__(
        self, by: Sequence[str], values: Sequence[Sequence[str]], bins: Mapping[str, Bins] | None = None
    ) -> None:
        self.by = tuple(by)
        self.bins = dict(bins or {})
        self.values = [tuple(value) for value in values]
        self.names = [segment_name(value) for value in self.values]
        self.unknown = len(self.values)
        self.missing = self.unknown + 1
        self.cells = {value: cell for cell, value in enumerate(self.values)}
        self.levels = [
            {level: code for code, level in enumerate(sorted({value[i] for value in self.values}))}
            for i in range(len(self.by))
        ]
        combined = sorted(
            (self._combined([self.levels[i][v] for i, v in enumerate(value)]), value) for value in self.values
        )
        self._codes = np.asarray([code for code, _ in combined], dtype=np.int64)
        self._cells = np.asarray([self.cells[value] for _, value in combined], dtype=np.intp)

    @classmethod
    def found_in(
        cls, by: Sequence[str], columns: Mapping[str, NDArray[Any]], bins: Mapping[str, Bins] | None = None
    ) -> Segments:
        """Every combination of values that occurs, sorted; rows with a missing value make none."""
        for column in by:
            if column not in columns:
                raise ColumnMissing(column, "segment", columns)
        codes: list[NDArray[np.intp]] = []
        levels: list[list[str]] = []
        for column in by:
            known: dict[str, int] = {}
            own = bins[column].column(columns[column]) if bins and column in bins else columns[column]
            codes.append(_codes(own, known, grow=True))
            levels.append(list(known))
            if len(known) > LIMIT:
                raise TooManySegments([column], len(known), LIMIT)
        complete = np.all([code >= 0 for code in codes], axis=0)
        sizes = tuple(len(level) for level in levels)
        if prod(sizes) >= 2**62:
            raise TooManySegments(by, prod(sizes), LIMIT)
        occurring = np.zeros(0, dtype=np.intp)
        if complete.any():
            occurring = np.unique(np.ravel_multi_index([code[complete] for code in codes], sizes))
        if len(occurring) > LIMIT:
            raise TooManySegments(by, len(occurring), LIMIT)
        parts = np.unravel_index(np.asarray(occurring, dtype=np.intp), sizes)
        values = [
            tuple(level[int(i)] for level, i in zip(levels, row, strict=True)) for row in zip(*parts, strict=True)
        ]
        return cls(by, sorted(values), bins)

    def find(self, columns: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.intp]:
        """Each row's cell, shape (rows,)."""
        codes = [
            _codes(self._column(columns[column], column), known) if column in columns else np.full(rows, _MISSING)
            for column, known in zip(self.by, self.levels, strict=True)
        ]
        worst = np.minimum.reduce(codes)
        combined = self._combined(codes)
        place = np.searchsorted(self._codes, combined)
        place = np.minimum(place, max(len(self._codes) - 1, 0))
        hit = (self._codes[place] == combined) & (worst >= 0) if len(self._codes) else np.zeros(rows, dtype=bool)
        cells = np.where(worst == _MISSING, self.missing, self.unknown).astype(np.intp)
        if hit.any():
            cells[hit] = self._cells[place[hit]]
        return cells

    def find_one(self, context: Mapping[str, Any]) -> int:
        """One row's cell; the same as `find` on a batch of that row."""
        if self.bins:
            values = tuple([self._text(context.get(column), column) for column in self.by])
        else:
            values = tuple([canonical(context.get(column)) for column in self.by])
        cell = self.cells.get(values)  # type: ignore[arg-type]
        if cell is not None:
            return cell
        return self.missing if None in values else self.unknown

    def _column(self, column: NDArray[Any], name: str) -> NDArray[Any]:
        return self.bins[name].column(column) if name in self.bins else column

    def _text(self, value: Any, name: str) -> str | None:
        return self.bins[name].one(value) if name in self.bins else canonical(value)

    def _combined(self, codes: Sequence[Any]) -> Any:
        total: Any = 0
        for code, levels in zip(codes, self.levels, strict=True):
            total = total * max(len(levels), 1) + code
        return total


_UNKNOWN, _MISSING = -1, -2


def _codes(column: NDArray[Any], known: dict[str, int], *, grow: bool = False) -> NDArray[np.intp]:
    """Each value's code in `known`; -1 unknown, -2 missing. With `grow` an unknown value gets the next code."""

    def code(value: Any) -> int:
        text = canonical(value)
        if text is None:
            return _MISSING
        return known.setdefault(text, len(known)) if grow else known.get(text, _UNKNOWN)

    if column.dtype.kind in "biufM":
        levels, inverse = np.unique(column, return_inverse=True)
        each: NDArray[np.intp] = np.asarray([code(value) for value in levels], dtype=np.intp)
        return each[inverse]
    values = column.tolist()
    distinct = set(values)
    if all(type(value) is str or value is None for value in distinct):
        # Each text once; other types can be equal without having the same name (True and 1).
        named = {value: code(value) for value in sorted(distinct, key=lambda value: value or "")}
        return np.asarray([named[value] for value in values], dtype=np.intp)
    return np.asarray([code(value) for value in values], dtype=np.intp)
