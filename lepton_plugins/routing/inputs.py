"""From what a caller passes to the columns that arms take: checked against the signature, cast without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InputInvalid, InputMissing, InputUnknown, RequestInvalid
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.moments import is_moment, moment_text

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str, NDArray[Any]]

_TEXT = {"str": (str, np.str_), "bytes": (bytes, np.bytes_)}


class InputChecker:
    """Checks columns against a signature. `optional` names what may be missing although the signature lists it.

    A column that has its field's dtype and shape already passes as it is: the usual case costs two
    comparisons. Integers become floats, whole floats integers, doubles single precision where the field
    has it; nothing else is cast. Without a signature everything passes.
    """

    def __init__(self, signature: Signature | None, optional: Sequence[str] = ()) -> None:
        fields = signature.inputs if signature is not None else ()
        self.fields = {field.name: field for field in fields}
        self.layout = signature.layout if signature is not None else "columns"
        #: Plain tuples: unpacking one costs less than looking up attributes, once a column and request.
        self._expected = [
            (
                field.name,
                None if is_moment(field) else numpy_dtype(field),
                len(field.shape),
                _TEXT[field.dtype][0] if field.dtype in _TEXT else None,
                field.required and field.name not in optional,
                field,
            )
            for field in fields
        ]

    def check(self, columns: Mapping[str, NDArray[Any]], rows: int) -> Columns:
        """The columns as the signature has them. RequestInvalid names the first that doesn't fit."""
        if not self._expected:
            return dict(columns)
        checked: Columns = {}
        for name, dtype, ndim, text, required, field in self._expected:
            column = columns.get(name)
            if column is None:
                if required:
                    raise InputMissing(name, columns, _expected(field))
                continue
            if text is not None:
                # One string is looked at here: a request of one row must not pay for the general case.
                if not (rows == 1 and column.shape == (1,) and type(column[0]) is text):
                    column = fit_column(field, column)
            elif column.dtype != dtype or column.ndim != ndim or (ndim > 1 and column.shape[1:] != field.shape[1:]):
                column = fit_column(field, column)
            if len(column) != rows:
                raise InputInvalid(name, f"{len(column)} rows", f"{rows}, as in the other inputs")
            checked[name] = column
        if len(checked) != len(columns):
            raise InputUnknown(next(name for name in columns if name not in self.fields), self.fields)
        return checked

    def columns_of(self, data: object) -> tuple[Columns, int]:
        """Columns by name, and the number of rows, of a DataFrame, a mapping of arrays or a 2-D array."""
        if isinstance(data, Mapping):
            columns = {str(name): _array(values) for name, values in data.items()}
        elif hasattr(data, "columns") and hasattr(data, "iloc"):
            columns = {str(name): _series(data[name]) for name in data.columns}  # type: ignore[index]
        else:
            columns = self._of_matrix(np.asarray(data))
        for name, column in columns.items():
            if column.ndim == 0:
                raise InputInvalid(name, "a single value", "an array with one value a row")
        return columns, len(next(iter(columns.values()))) if columns else 0

    def _of_matrix(self, matrix: NDArray[Any]) -> Columns:
        plain = [name for name, field in self.fields.items() if not field.parameter]
        if len(plain) == 1 and (self.layout == "tensors" or matrix.ndim == 1):
            return {plain[0]: matrix}
        required = [name for name, field in self.fields.items() if field.required]
        for candidate in (plain, required):
            if matrix.ndim == 2 and matrix.shape[1] == len(candidate) and candidate:
                return {name: matrix[:, index] for index, name in enumerate(candidate)}
        raise RequestInvalid(
            f"Found an array of shape {matrix.shape}",
            expected=f"(rows, {len(plain)}) in the order {', '.join(plain)[:300]}" if plain else "columns by name",
        )


def fit_column(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    """`values` in the field's dtype and shape, cast without loss; InputInvalid where that can't be."""
    values = _shaped(field, values)
    if is_moment(field):
        texts = [None if _is_missing(value) else moment_text(field, value) for value in values.flat]
        return boxed(texts).reshape(values.shape)
    dtype = numpy_dtype(field)
    kind, found = dtype.kind, values.dtype.kind
    if field.dtype in _TEXT:
        return _texts(field, values)
    if kind == "O":
        return values
    if values.dtype == dtype:
        return values
    if found == "O":
        values = _unboxed(field, values)
        found = values.dtype.kind
    if kind == "M":
        return _dates(field, values)
    if kind == "b" and found == "b":
        return values.astype(dtype)
    if kind == "f" and found in "iuf":
        return _floats(field, values, dtype)
    if kind in "iu" and found in "iuf":
        with np.errstate(invalid="ignore"):
            whole = values.astype(dtype)
        # Compared in the wider of the two types: 2**63 must not come back as itself after it wrapped.
        same = whole == values if found != "f" else (whole.astype(np.float64) == values) & (np.abs(values) < 2.0**63)
        if not np.all(same):
            raise InputInvalid(field.name, f"the value {values[~same].flat[0]}", _expected(field))
        return whole
    raise InputInvalid(field.name, _described(values), _expected(field))


def null_rows(columns: Mapping[str, NDArray[Any]], rows: int) -> dict[str, NDArray[np.bool_]]:
    """For each input the rows (rows,) in which it, or a part of it, is null."""
    return {name: np.any(_nulls(column).reshape(rows, -1), axis=1) for name, column in columns.items()}


def first_null(columns: Mapping[str, NDArray[Any]], rows: int) -> tuple[int, list[str]] | None:
    """The first row with a null number, else null of any kind, and its inputs."""
    nulls = null_rows(columns, rows)
    numbers = {name: found for name, found in nulls.items() if columns[name].dtype.kind == "f"}
    for kind in (numbers, nulls):
        found = np.flatnonzero(np.any(list(kind.values()), axis=0)).tolist() if kind else []
        if found:
            row = found[0]
            return row, [name for name, null in kind.items() if null[row]]
    return None


def by_nulls(columns: Mapping[str, NDArray[Any]], rows: int) -> list[NDArray[np.intp]]:
    """The rows in groups, each with nulls in the same inputs; those without come first."""
    nulls = np.stack(list(null_rows(columns, rows).values()), axis=1)
    _, group = np.unique(nulls, axis=0, return_inverse=True)
    return [np.flatnonzero(group.reshape(-1) == number) for number in range(int(group.max()) + 1)]


def _nulls(column: NDArray[Any]) -> NDArray[np.bool_]:
    if column.dtype.kind == "O":
        return np.fromiter(map(_is_missing, column.flat), dtype=bool, count=column.size).reshape(column.shape)
    missing: NDArray[np.bool_] = column != column  # NaN and NaT.
    return missing


def numpy_dtype(field: Field) -> np.dtype[Any]:
    """The dtype of a field's arrays: text and bytes are Python objects, and so are parameters that are dates."""
    if field.dtype in ("str", "bytes", "object") or is_moment(field):
        return np.dtype(object)
    return np.dtype(field.dtype)


def boxed(values: Sequence[Any]) -> NDArray[Any]:
    """A column of Python objects, whatever they are."""
    return np.fromiter(values, dtype=object, count=len(values))


def _shaped(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    shape = field.shape
    if len(shape) > 1 and values.dtype == object and values.ndim == 1 and values.size:
        values = _stacked(field, values)
    if values.ndim == 2 and len(shape) == 1 and values.shape[1] == 1:
        return values[:, 0]  # One column of a table, as codecs of the Open Inference Protocol send it.
    if values.ndim != len(shape) or any(
        want not in (-1, have) for want, have in zip(shape[1:], values.shape[1:], strict=True)
    ):
        expected = "one value a row" if len(shape) == 1 else f"shape {shape} (-1: any)"
        raise InputInvalid(field.name, f"an array of shape {values.shape}", expected)
    return values


def _stacked(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    """A column of lists or arrays, as tables hold tensors, as one array with the batch axis first."""
    try:
        stacked: NDArray[Any] = np.stack([np.asarray(value) for value in values])
        if stacked.dtype == object:  # Arrays of arrays, as parquet gives nested values.
            stacked = np.array([[*map(list, value)] for value in values])
        return stacked if stacked.size else stacked.astype(numpy_dtype(field))
    except (TypeError, ValueError):
        found = f"values such as {str(values[0])[:60]!r}"
        raise InputInvalid(field.name, found, f"arrays of one shape, {field.shape[1:]}") from None


def _floats(field: Field, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.itemsize >= 8 and values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        big = np.abs(values) > 2**53
        if np.any(big & (values.astype(np.float64).astype(values.dtype) != values)):
            raise InputInvalid(field.name, f"the integer {values[big].flat[0]}", "numbers that a double can hold")
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    if dtype.itemsize < values.dtype.itemsize and np.any(np.isinf(cast) & np.isfinite(values)):
        raise InputInvalid(field.name, "a number out of range", _expected(field))
    return cast


def _texts(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == {"str": "U", "bytes": "S"}[field.dtype]:
        return values.astype(object)
    if values.dtype.kind != "O":
        raise InputInvalid(field.name, _described(values), _expected(field))
    allowed = {*_TEXT[field.dtype], type(None)}
    if set(map(type, values.flat)) <= allowed:
        return values
    cleaned = values.copy()
    for index, value in enumerate(values.flat):
        if _is_missing(value):
            cleaned.flat[index] = None  # pandas' NaN and NA in a column of strings.
        elif type(value) not in allowed:
            raise InputInvalid(field.name, f"the {type(value).__name__} {value!r}"[:200], _expected(field))
    return cleaned


def _unboxed(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    """A column of Python objects as the plain dtype that holds them; None becomes NaN."""
    plain = [None if _is_missing(value) else value for value in values.flat]
    kinds = {type(value) for value in plain}
    if kinds & {str, bytes, dict, list, tuple} and numpy_dtype(field).kind != "M":
        odd = next(value for value in plain if isinstance(value, str | bytes | dict | list | tuple))
        raise InputInvalid(field.name, f"the {type(odd).__name__} {odd!r}"[:200], _expected(field))
    if type(None) in kinds and numpy_dtype(field).kind in "iub":
        raise InputInvalid(field.name, "a missing value", _expected(field))
    if numpy_dtype(field).kind == "M":
        texts = ["NaT" if value is None else str(value) for value in plain]
        return _dates(field, np.array(texts, dtype="U")).reshape(values.shape)
    try:
        filled = [np.nan if value is None else value for value in plain]
        return np.array(filled).reshape(values.shape)
    except (TypeError, ValueError):
        raise InputInvalid(field.name, "values of mixed types", _expected(field)) from None


def _dates(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "U":
        values = np.char.rstrip(values, "Z")
    elif values.dtype.kind != "M":
        raise InputInvalid(field.name, _described(values), _expected(field))
    try:
        return _moments(field, values)
    except ValueError:
        odd = next(text for text in values.flat if not _is_date(text))
        raise InputInvalid(field.name, f"the text {str(odd)!r}"[:200], "dates such as 2026-01-31T12:00:00") from None


def _is_date(text: str) -> bool:
    try:
        np.datetime64(text)
    except ValueError:
        return False
    return True


def _moments(field: Field, values: NDArray[Any]) -> NDArray[Any]:
    """Dates, or their text, in the field's unit; InputInvalid where it can't hold one: numpy makes another of it."""
    dtype = numpy_dtype(field)
    cast = values.astype(dtype)
    other = (cast.astype("M8[s]") != values.astype("M8[s]")) & ~np.isnat(cast)
    if np.any(other):
        expected = "dates from 1677-09-22 to 2262-04-10" if dtype == "M8[ns]" else f"dates that {dtype} can hold"
        raise InputInvalid(field.name, f"the date {values[other].flat[0]}", expected)
    return cast


def _is_missing(value: Any) -> bool:
    # pandas' NA and NaT differ from themselves too, or say neither: they are known by their type's name.
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def _series(series: pd.Series[Any]) -> NDArray[Any]:
    dtype: Any = series.dtype
    if isinstance(dtype, np.dtype):
        return np.asarray(series)
    if dtype.kind in "iufb":  # pandas' nullable numbers
        if not series.hasnans:
            name = dtype.name.lower().partition("[")[0]
            return series.to_numpy(dtype="bool" if dtype.kind == "b" else name)
        if dtype.kind != "b":
            return series.to_numpy(dtype=np.float64, na_value=np.nan)
    if dtype.kind == "M":
        return np.asarray(series.dt.tz_convert("UTC").dt.tz_localize(None))
    return np.asarray(series.astype(object).where(series.notna(), None), dtype=object)


def _array(values: object) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "iloc"):
        return _series(values)  # type: ignore[arg-type]
    array = np.asarray(values)
    # numpy makes text of a list that mixes strings with anything else; what was passed must stay visible.
    return np.asarray(values, dtype=object) if array.dtype.kind in "US" else array


def _described(values: NDArray[Any]) -> str:
    names = {"O": "objects", "U": "strings", "S": "bytes", "M": "dates"}
    kind = names.get(values.dtype.kind, values.dtype.name)
    if not values.size:
        return kind
    first = values.flat[0]
    # As its owner writes it: True and 0, not np.True_ and np.int64(0).
    shown = str(first) if values.dtype.kind in "biufM" else repr(values.flat[:1].tolist()[0])
    return f"{kind} such as {shown}"[:100]


def _expected(field: Field) -> str:
    return field.dtype if len(field.shape) == 1 else f"{field.dtype} of shape {field.shape}"
