"""Slices: which rows of the evaluation data belong to which value of a column, a crossing or a bin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import ColumnMissing, InvalidInput, TooManySlices

if TYPE_CHECKING:
    import pandas as pd

#: The value of rows that have none in the column.
MISSING = "(missing)"

#: More would neither be read nor have rows enough; each costs a set of intervals.
MOST_SLICES = 250


@dataclass(frozen=True, slots=True)
class Slicing:
    """Columns to slice by; `bins` has a number of quantile bins, or None, for each."""

    by: tuple[str, ...]
    bins: tuple[int | None, ...]


class SliceCodes(NamedTuple):
    """`codes` (n,) are indices into `values`, each the tuple of labels of one slice."""

    codes: NDArray[np.intp]
    values: list[tuple[str, ...]]


def parse_slicing(text: str, columns: Sequence[str]) -> Slicing:
    """`carrier`, `carrier,origin` (crossed) or `distance:4` (quantile bins), against the data's columns.

    A column whose own name holds a comma or a colon is taken by its name. ColumnMissing, InvalidInput.
    """
    known = set(columns)
    names: list[str] = []
    bins: list[int | None] = []
    for part in [text] if text in known else [part.strip() for part in text.split(",")]:
        name, count = part, None
        if part not in known and (match := re.fullmatch(r"(.*):([0-9]+)", part)):
            name, count = match[1], int(match[2])
            if not 2 <= count <= MOST_SLICES:
                raise InvalidInput(f"Slicing {text!r}: found {count} bins, expected 2 to {MOST_SLICES}.")
        if name not in known:
            raise ColumnMissing(name, "slice", columns)
        if name in names:
            raise InvalidInput(f"Slicing {text!r} names the column {name!r} twice.")
        names.append(name)
        bins.append(count)
    return Slicing(tuple(names), tuple(bins))


def slice_frame(
    frame: pd.DataFrame, texts: Sequence[str], most: int = MOST_SLICES
) -> dict[tuple[str, ...], SliceCodes]:
    """The slices of a table by their columns, values in natural order, missing values last.

    TooManySlices where a column is (nearly) continuous; InvalidInput where two slicings share their columns.
    """
    found: dict[tuple[str, ...], SliceCodes] = {}
    for text in texts:
        slicing = parse_slicing(text, list(frame.columns))
        if slicing.by in found:
            raise InvalidInput(f"The columns {', '.join(slicing.by)} are sliced twice; slice by them once.")
        found[slicing.by] = _codes(frame, slicing, text, most)
    return found


def _codes(frame: pd.DataFrame, slicing: Slicing, text: str, most: int) -> SliceCodes:
    codes = np.zeros(len(frame), dtype=np.int64)
    values: list[tuple[str, ...]] = [()]
    for name, bins in zip(slicing.by, slicing.bins, strict=True):
        own, labels = column_labels(frame[name]) if bins is None else _binned(frame[name], bins)
        # Only crossings that occur are slices.
        present, inverse = np.unique(codes * len(labels) + own, return_inverse=True)
        codes = inverse.reshape(-1).astype(np.int64)
        values = [(*values[cell // len(labels)], labels[cell % len(labels)]) for cell in present.tolist()]
        if len(values) > most:
            raise TooManySlices(text, len(values), most, _hint(frame, slicing))
    return SliceCodes(codes.astype(np.intp), values)


def _hint(frame: pd.DataFrame, slicing: Slicing) -> str:
    numeric = [c for c, b in zip(slicing.by, slicing.bins, strict=True) if b is None and frame[c].dtype.kind in "iuf"]
    widest = max(numeric, key=lambda name: frame[name].nunique(), default=None)
    if widest is not None:
        return f"Slice {widest!r} by quantile bins: {widest}:4"
    return "Slice by fewer columns, or by one with fewer values."


def column_labels(series: pd.Series[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """Codes (n,) and labels of a column's distinct values: numbers ascending, text sorted, missing last."""
    import pandas as pd

    codes, distinct = pd.factorize(series)
    try:
        distinct_order = sorted(range(len(distinct)), key=lambda i: distinct[i])
    except TypeError:  # Numbers and text in one column.
        distinct_order = sorted(range(len(distinct)), key=lambda i: label(distinct[i]))
    names = [label(distinct[i]) for i in distinct_order]
    labels = list(dict.fromkeys(names))
    place = {name: index for index, name in enumerate(labels)}
    to_label = np.empty(len(distinct) + 1, dtype=np.int64)
    for index, name in zip(distinct_order, names, strict=True):
        to_label[index] = place[name]
    to_label[-1] = len(labels)  # factorize's -1 for missing values indexes the last entry.
    if (codes < 0).any():
        labels.append(MISSING)
    return to_label[codes], labels


def label(value: Any) -> str:
    """A value as a slice's label: whole numbers without a point, dates without an empty time."""
    if isinstance(value, (float, np.floating)):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    text = str(value)
    return text.removesuffix(" 00:00:00")


def _binned(series: pd.Series[Any], bins: int) -> tuple[NDArray[np.int64], list[str]]:
    """Quantile bins, closed on the left (the last on both sides): "[100, 250)". Equal edges fall together."""
    try:
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"Slicing {series.name}:{bins}: the column isn't numeric (found {str(series.iloc[0])!r}); "
            f"slice it by its values: {series.name}"
        ) from None
    there = values[np.isfinite(values)]
    if not len(there):
        return np.zeros(len(values), dtype=np.int64), [MISSING]
    # Quantiles that are values of the column: edges people recognise.
    edges = np.unique(np.quantile(there, np.linspace(0, 1, bins + 1), method="lower"))
    if len(edges) == 1:
        edges = np.repeat(edges, 2)
    last = len(edges) - 2
    codes = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, last)
    shown = _distinct_numbers(edges)
    labels = [f"[{shown[i]}, {shown[i + 1]}{']' if i == last else ')'}" for i in range(last + 1)]
    outside = ~np.isfinite(values)
    if outside.any():
        codes[outside] = len(labels)
        labels.append(MISSING)
    return codes.astype(np.int64), labels


def _distinct_numbers(edges: NDArray[np.float64]) -> list[str]:
    for digits in (3, 4, 6, 9, 17):
        shown = [f"{int(e)}" if float(e).is_integer() and abs(e) < 1e15 else f"{e:.{digits}g}" for e in edges]
        if len(set(shown)) == len(set(edges.tolist())):
            break
    return shown
