"""Segments: rows that agree in the columns `by`, found for a batch or for one row alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import EvidenceColumnMissing, TooManySegments
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
        self._lookups = [_Lookup(levels) for levels in self.levels]
        combined = [self._combined([self.levels[i][v] for i, v in enumerate(value)]) for value in self.values]
        size = prod(max(len(levels), 1) for levels in self.levels)
        # The last two stand for what no code has: they are found at -2 and -1.
        self._table = np.full(size + 2, self.unknown, dtype=np.intp) if size <= _DENSE else None
        if self._table is not None:
            self._table[combined] = np.arange(self.unknown)
            self._table[_MISSING] = self.missing
        order = np.argsort(np.asarray(combined, dtype=np.int64))
        self._codes, self._cells = np.asarray(combined, dtype=np.int64)[order], order.astype(np.intp)

    @classmethod
    def found_in(
        cls, by: Sequence[str], columns: Mapping[str, NDArray[Any]], bins: Mapping[str, Bins] | None = None
    ) -> Segments:
        """Every combination of values that occurs, sorted; rows with a missing value make none."""
        for column in by:
            if column not in columns:
                raise EvidenceColumnMissing(column, "segment", columns)
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
            self._codes_of(columns[column], index) if column in columns else np.full(rows, _MISSING)
            for index, column in enumerate(self.by)
        ]
        if len(codes) == 1 and self._table is not None:
            cells: NDArray[np.intp] = self._table[codes[0]]
            return cells
        worst = np.minimum.reduce(codes)
        combined = self._combined(codes)
        if self._table is not None:
            cells = self._table[np.where(worst < 0, worst, combined)]
        else:
            place = np.minimum(np.searchsorted(self._codes, combined), max(len(self._codes) - 1, 0))
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

    def _codes_of(self, column: NDArray[Any], index: int) -> NDArray[np.intp]:
        name = self.by[index]
        if name in self.bins:
            return self.bins[name].codes(column, self.levels[index])
        if column.dtype == object:
            try:
                return np.fromiter(map(self._lookups[index].__getitem__, column.tolist()), np.intp, len(column))
            except TypeError:  # A list or the like is no key.
                pass
        return _codes(column, self.levels[index])

    def _text(self, value: Any, name: str) -> str | None:
        return self.bins[name].one(value) if name in self.bins else canonical(value)

    def _combined(self, codes: Sequence[Any]) -> Any:
        total: Any = 0
        for code, levels in zip(codes, self.levels, strict=True):
            total = total * max(len(levels), 1) + code
        return total


_UNKNOWN, _MISSING = -1, -2
#: Up to so many combinations of values a table holds all of them.
_DENSE = 1_000_000


class _Lookup(dict[Any, int]):
    """A value's code by its text; what isn't a known text is worked out each time and not kept."""

    def __missing__(self, value: Any) -> int:
        text = canonical(value)
        return _MISSING if text is None else self.get(text, _UNKNOWN)


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
    try:
        distinct = set(values)
    except TypeError:  # A list or the like can be no key.
        return np.asarray([code(value) for value in values], dtype=np.intp)
    if all(type(value) is str or value is None for value in distinct):
        # Each text once; other types can be equal without having the same name (True and 1).
        named = {value: code(value) for value in sorted(distinct, key=lambda value: value or "")}
        return np.asarray([named[value] for value in values], dtype=np.intp)
    return np.asarray([code(value) for value in values], dtype=np.intp)
