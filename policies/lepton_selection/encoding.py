"""Context columns as a matrix of numbers, by a declared encoding."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from struct import error as StructError
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lepton_plugins.errors import EvidenceColumnMissing, PolicyUnfit
from lepton_plugins.routing.policy import column_of
from lepton_selection.segments import Segments, canonical

#: Values of a text column that get a column of their own: the most frequent ones, each with this many rows.
_LEVELS, _ROWS = 32, 20
#: Columns of a hashed one, and standard deviations at which a standardised value is cut off.
_HASHED, _FARTHEST = 32, 10.0

#: What single precision doesn't hold counts as missing.
_HUGE = 1e30

#: {"name", "kind": "number", "fill"}: as it is, and a flag where it is missing (2 columns).
#: {"name", "kind": "text", "levels"}: one-hot, rare texts all zeros, and a flag where it is missing.
#: {"name", "kind": "standard", "mean", "scale"}: standardised, 0 where it is missing (1 column).
#: {"name", "kind": "hashed", "width"}: +1 or -1 in one of so many columns, zeros where it is missing.
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


def declare_linear(
    kind: str, wanted: Mapping[str, str], columns: Mapping[str, NDArray[Any]], known: Sequence[str]
) -> list[dict[str, Any]]:
    """An encoding for linear models: `wanted` says how (auto, standardised, one_hot, hashed, hashed:64) by column.

    Standardised columns come first. ColumnMissing, PolicyUnfit name `kind`, the policy.
    """
    declared: list[dict[str, Any]] = []
    for name, how in wanted.items():
        match = re.fullmatch(r"hashed(?::([0-9]+))?", how)
        if match:
            declared.append({"name": name, "kind": "hashed", "width": int(match[1] or _HASHED)})
            continue
        if name not in columns:
            raise EvidenceColumnMissing(name, "feature", known)
        (found,) = declare([name], columns)
        numeric = found["kind"] == "number"
        if how == "standardised" and not numeric:
            raise PolicyUnfit(kind, f"features: {name}: standardised, a column without numbers", f"{name}: one_hot")
        if how == "one_hot" or (how == "auto" and not numeric):
            declared.append(_one_hot(name, columns) if numeric else found)
            continue
        numbers, finite = _numbers(columns[name])
        mean, scale = float(numbers[finite].mean()), float(numbers[finite].std())
        entry = {"name": name, "kind": "standard", "mean": _figure(mean), "scale": _figure(scale) if scale > 0 else 1.0}
        declared.append(entry)
    return sorted(declared, key=lambda column: column["kind"] != "standard")


def _one_hot(name: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """A column of numbers by its frequent values."""
    column = columns[name]
    texts = np.empty(len(column), dtype=object)
    texts[:] = [canonical(value) for value in column.tolist()]
    return declare([name], {name: texts})[0]


def _figure(value: float) -> float:
    """Nine significant digits: the same on machines whose sums round differently."""
    return float(f"{value:.9g}")


class Encoder:
    """Encodes batches as (rows, width), and single rows alike."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)
        self._segments = {
            column["name"]: Segments([column["name"]], [[level] for level in column["levels"]])
            for column in columns
            if column["kind"] == "text"
        }
        self.width = sum(map(_width, columns))
        self._names = [column["name"] for column in columns if column["kind"] == "standard"]
        standard = [column for column in columns if column["kind"] == "standard"]
        count, after = len(standard), self.width - len(standard)
        # In the shape of a row: zeros are subtracted from what comes after, and it is multiplied by ones.
        self._means = np.array([*(column["mean"] for column in standard), *[0.0] * (after + 1)])
        self._scales = np.array([*(1.0 / column["scale"] for column in standard), *[1.0] * (after + 1)])
        self._get = _getter(self._names)
        self._pack = Struct(f"{count}d{8 * after}xd").pack
        #: Single rows take a short way where standardised columns come first.
        self._rest: list[tuple[str, str, int, dict[str | None, int], float]] | None = None
        if [column["name"] for column in columns[: len(standard)]] == self._names:
            self._rest = self._places(len(standard))

    def _places(self, at: int) -> list[tuple[str, str, int, dict[str | None, int], float]]:
        """Each later column's name, kind, where it begins, the places of its levels, and its width or what fills it."""
        found: list[tuple[str, str, int, dict[str | None, int], float]] = []
        for column in self._columns[at:]:
            levels: dict[str | None, int] = {}
            if column["kind"] == "text":
                levels = {level: at + place for place, level in enumerate(column["levels"])}
                levels[None] = at + len(levels)
            found.append((column["name"], column["kind"], at, levels, column.get("width", column.get("fill", 0.0))))
            at += _width(column)
        return found

    def encode_one(self, context: Mapping[str, Any]) -> NDArray[np.float64]:
        """One row as `encode` gives it, and behind it a 1, the constant of linear models: shape (width + 1,)."""
        if self._rest is None:
            columns = {column["name"]: column_of(context.get(column["name"])) for column in self._columns}
            return np.append(self.encode(columns, 1, np.float64)[0], 1.0)
        try:
            raw = np.frombuffer(self._pack(*self._get(context), 1.0))
        except (StructError, KeyError):
            raw = self._with_means(context)
        row: NDArray[np.float64] = raw - self._means
        row *= self._scales
        # One product mostly tells that all are near: no NaN, nothing beyond the farthest.
        if not row.dot(row) < _FARTHEST**2:
            near = np.clip(row, -_FARTHEST, _FARTHEST)
            row = np.where(np.abs(raw) < _HUGE, near, 0.0)
        for name, kind, start, levels, width in self._rest:
            value = context.get(name)
            if kind == "number":
                number = value if type(value) is float else _number(value)
                known = abs(number) < _HUGE
                row[start], row[start + 1] = number if known else width, not known
                continue
            text = value if type(value) is str else canonical(value)
            if kind == "text":
                place = levels.get(text)
                if place is not None:
                    row[place] = 1.0
            elif text is not None:
                code = crc32(text.encode("utf-8", "surrogatepass"))
                row[start + (code >> 1) % int(width)] = 1.0 if code & 1 else -1.0
        return row

    def _with_means(self, context: Mapping[str, Any]) -> NDArray[np.float64]:
        """A row that lacks standardised columns, or has other things than numbers there: the means instead."""
        raw = np.zeros(self.width + 1)
        raw[-1] = 1.0
        for place, name in enumerate(self._names):
            value = _number(context.get(name))
            raw[place] = self._means[place] if value != value else value
        return raw

    def _encode_standard(self, context: Mapping[str, NDArray[Any]], matrix: NDArray[np.floating[Any]]) -> int:
        """The leading standardised columns together, and how many they are: 0 where they need a look each."""
        count = len(self._names) if self._rest is not None else 0
        if not all(name in context and context[name].dtype.kind in "biuf" for name in self._names[:count]):
            return 0
        if not count or not len(matrix):
            return count
        block = matrix[:, :count].T
        for place, name in enumerate(self._names[:count]):
            np.subtract(context[name], self._means[place], out=block[place], casting="unsafe")
        block *= self._scales[:count, None].astype(block.dtype)
        if not (block.max() <= _FARTHEST and block.min() >= -_FARTHEST):
            np.clip(block, -_FARTHEST, _FARTHEST, out=block)
            for place, name in enumerate(self._names[:count]):
                block[place][~_numbers(context[name])[1]] = 0.0
        return count

    def encode(
        self, context: Mapping[str, NDArray[Any]], rows: int, dtype: DTypeLike = np.float32
    ) -> NDArray[np.floating[Any]]:
        matrix = np.zeros((rows, self.width), dtype=dtype)
        self.encode_into(context, matrix)
        return matrix

    def encode_into(self, context: Mapping[str, NDArray[Any]], matrix: NDArray[np.floating[Any]]) -> None:
        """`encode` into zeros (rows, width); columns that are contiguous take a fraction of the time."""
        rows = len(matrix)
        at = self._encode_standard(context, matrix)
        for column in self._columns[at:]:
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
            if column["kind"] == "standard":
                if name in context:
                    numbers, finite = _numbers(context[name])
                    standard = (numbers - column["mean"]) * (1.0 / column["scale"])
                    matrix[:, at] = np.where(finite, np.clip(standard, -_FARTHEST, _FARTHEST), 0.0)
                at += 1
                continue
            if column["kind"] == "hashed":
                if name in context:
                    _hash_into(matrix[:, at : at + column["width"]], context[name])
                at += column["width"]
                continue
            segments = self._segments[name]
            cells = segments.find(context, rows)
            known = cells < segments.unknown
            matrix[np.flatnonzero(known), at + cells[known]] = 1.0
            matrix[cells == segments.missing, at + segments.unknown] = 1.0
            at += segments.unknown + 1


def _width(column: Column) -> int:
    if column["kind"] == "text":
        return len(column["levels"]) + 1
    return {"number": 2, "standard": 1}.get(column["kind"]) or int(column["width"])


def _hash_into(matrix: NDArray[Any], column: NDArray[Any]) -> None:
    """Signed hashing (Weinberger et al. 2009): equal texts go to the same column, with the same sign."""
    places: dict[str, int] = {}
    for row, value in enumerate(column.tolist()):
        text = value if type(value) is str else canonical(value)
        if text is not None:
            code = places.get(text)
            if code is None:
                code = places[text] = crc32(text.encode("utf-8", "surrogatepass"))
            matrix[row, (code >> 1) % matrix.shape[1]] = 1.0 if code & 1 else -1.0


def _getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """The values of these names, one after the other; KeyError where one isn't there."""
    if len(names) == 1:
        return lambda context: (context[names[0]],)
    return itemgetter(*names) if names else lambda context: ()


def _number(value: Any) -> float:
    """A value as a number; NaN where it is none, text included."""
    if isinstance(value, str | bytes | bytearray) or not hasattr(value, "__float__"):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _numbers(column: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Numbers (rows,), and which of them are finite in single precision; what is no number isn't."""
    if column.dtype.kind in "biuf":
        numbers = column.astype(np.float64)
    else:
        numbers = np.array([_number(value) for value in column.tolist()], dtype=np.float64)
    finite: NDArray[np.bool_] = np.abs(numbers) < _HUGE
    return numbers, finite
