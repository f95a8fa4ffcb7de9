"""From what a request holds to columns for the router, which checks them against its signature."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InputInvalid, InputUnknown, RequestInvalid, TooManyRows
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.inputs import Columns, boxed, numpy_dtype

#: What a JSON value may be for a signature's dtype, by numpy's kind or the name of a Python type.
_ELEMENT: dict[str, Any] = {"b": bool, "i": int, "u": int, "f": float | None, "M": str | None, "str": str | None}
_SAID = {"b": "booleans", "i": "integers", "u": "integers", "f": "numbers", "M": "ISO 8601 dates", "str": "strings"}

_KIND: dict[type, str] = {
    bool: "the boolean",
    str: "the string",
    int: "the number",
    float: "the number",
    list: "a list",
    type(None): "null",
}
_INDEX = re.compile(r"\[(\d+)\]")
#: Characters of a value in an error.
_SHOWN = 60


class JsonField:
    """Reads the JSON values of one input: a null number is NaN, a null string or date missing."""

    def __init__(self, field: Field) -> None:
        self.name = field.name
        self.dtype = numpy_dtype(field)
        self.kind = field.dtype if field.dtype in ("str", "bytes", "object") else np.dtype(field.dtype).kind
        self._depth = depth = len(field.shape)
        self._type = _nested(_ELEMENT.get(self.kind, Any), depth)
        self._floats = _nested(float, depth) if self.kind in "iu" else None
        said = _SAID.get(self.kind, "values")
        self.expected = said if depth == 1 else f"{said} of shape {list(field.shape)}"
        if field.parameter and depth > 1:
            self.expected = f"a list of {said}"

    def column(self, values: Any) -> NDArray[Any]:
        """Values, one a row, as an array. InputInvalid where they are of another type."""
        try:
            checked = msgspec.convert(values, self._type)
            if self.dtype.kind in "biuf":
                return np.array(checked, dtype=self.dtype)
        except (msgspec.ValidationError, OverflowError, ValueError) as error:
            return self._whole_numbers(values, error)
        if self.kind == "bytes":
            checked = [self._unpacked(value) for value in checked]
        return boxed(checked) if self._depth == 1 else np.array(checked, dtype=object)

    def spoken(self, value: Any) -> Any:
        """A parameter's value, in JSON where it comes as text and isn't of that type."""
        if isinstance(value, str) and (self._depth > 1 or self.kind not in ("str", "M")):
            try:
                return msgspec.json.decode(value)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass
        return value

    def texts(self, array: NDArray[Any]) -> NDArray[Any]:
        """BYTES as this input has them: bytes, or text in UTF-8."""
        if self.kind != "bytes":
            return as_text(self.name, array)
        if all(type(value) is bytes for value in array.flat):
            return array
        return boxed([v.encode() if isinstance(v, str) else v for v in array.flat]).reshape(array.shape)

    def _whole_numbers(self, values: Any, error: Exception) -> NDArray[Any]:
        """2.0 may be meant as an integer, JSON writers differ: the router sees whether it is whole."""
        if self._floats is not None:
            try:
                return np.array(msgspec.convert(values, self._floats), dtype=np.float64)
            except (msgspec.ValidationError, ValueError):
                pass
        if isinstance(error, msgspec.ValidationError):
            found = _odd_one(values, error)
        elif isinstance(error, OverflowError):
            found = f"a number that {self.dtype} can't hold"
        else:
            found = "rows of different shapes"
        raise InputInvalid(self.name, found, self.expected) from None

    def parsed(self, cell: str) -> Any:
        """A cell of CSV as the JSON value that it stands for; empty is missing."""
        if self.kind in ("str", "bytes", "object", "M"):
            return cell if cell or self.kind == "bytes" else None
        if not cell:
            return None
        try:
            if self.kind == "b":
                return {"true": True, "1": True, "false": False, "0": False}[cell.strip().lower()]
            if "_" in cell:
                raise ValueError(cell)  # A number to Python, and to nobody else.
            return float(cell) if self.kind == "f" or "." in cell else int(cell)
        except (ValueError, KeyError):
            raise InputInvalid(self.name, repr(cell[:80]), self.expected) from None

    def _unpacked(self, value: Any) -> Any:
        """Bytes travel as base64: bare as MLflow writes them, or `{"b64": …}` as TensorFlow Serving does."""
        text = value.get("b64") if isinstance(value, dict) else value
        try:
            return base64.b64decode(text, validate=True) if text is not None else None
        except (binascii.Error, ValueError, TypeError):
            raise InputInvalid(self.name, "a value that isn't base64", "strings of base64") from None


class InputReader:
    """Reads a request's inputs by a router's signature; each method gives `(columns, rows)`.

    What it looks at is the request's own form: names, kinds of JSON values, rows of equal length, how
    many there are. Missing inputs, dtypes and shapes are the router's to check.
    """

    def __init__(self, signature: Signature, rows: int) -> None:
        self.fields = {field.name: JsonField(field) for field in signature.inputs}
        self.names = tuple(self.fields)
        self.required = tuple(field.name for field in signature.inputs if field.required)
        self.parameters = {field.name: self.fields[field.name] for field in signature.parameters}
        self._plain = tuple(name for name in self.names if name not in self.parameters)
        self._flat = frozenset(field.name for field in signature.inputs if len(field.shape) == 1)
        self._limit = rows

    def tensors(self, given: dict[str, NDArray[Any]]) -> tuple[Columns, int]:
        """Tensors by name. One matrix of another name stands for the columns that aren't named themselves."""
        fields = self.fields
        for name, array in given.items():
            field = fields.get(name)
            if field is None:
                return self._counted(self._split_matrix(given, name))
            if array.dtype.kind == "O":
                given[name] = field.texts(array)
        return self._counted(given)

    def _split_matrix(self, given: Mapping[str, NDArray[Any]], name: str) -> Columns:
        matrix = given[name]
        if matrix.dtype.kind == "O":
            matrix = as_text(name, matrix)
        for names in (self._plain, self.required):
            left = [other for other in names if other not in given]
            # At least two, so that one column under a misspelt name is not taken for it.
            if len(left) > 1 and matrix.ndim == 2 and matrix.shape[1] == len(left) and self._flat.issuperset(left):
                named = {other: array for other, array in given.items() if other != name}
                return named | {column: matrix[:, index] for index, column in enumerate(left)}
        raise InputUnknown(name, self.names)

    def columns(self, given: Mapping[str, Any]) -> tuple[Columns, int]:
        """Lists of values by name; a lone value counts as a list of one."""
        return self._counted(
            {
                name: self._field(name).column(value if isinstance(value, list) else [value])
                for name, value in given.items()
            }
        )

    def with_own_parameters(self, given: Any, columns: Columns, rows: int) -> Columns:
        """The columns, and those of a request's parameters that a version takes: the rest isn't for the model.

        For protocols whose parameters are of other things, too, and are scalars: a list, and over gRPC a number that
        isn't whole, may come as text in JSON.
        """
        taken = self.parameters
        if not taken or given is None:
            return columns
        if not isinstance(given, dict):
            raise RequestInvalid("`parameters` isn't an object", field="parameters", expected="parameters by name")
        own = {name: taken[name].spoken(value) for name, value in given.items() if name in taken}
        return self.with_parameters(own, columns, rows)

    def with_parameters(self, given: Any, columns: Columns, rows: int) -> Columns:
        """The columns, and a request's parameters as those inputs that may be left out, alike in all rows.

        A null leaves each version its own default.
        """
        if not given:
            return columns
        if not isinstance(given, dict):
            raise RequestInvalid("`params` isn't an object", field="params", expected="parameters by name")
        optional = [name for name in self.names if name not in self.required]
        added: Columns = {}
        for name, value in given.items():
            if name not in optional:
                found = "it in the parameters" if name in self.names else "a parameter that no version takes"
                raise InputInvalid(name, found, " or ".join(optional) or "none: no version takes parameters")
            if name in columns:
                raise InputInvalid(name, "it in the parameters and among the inputs", "one of them")
            if value is not None:
                added[name] = np.repeat(self.fields[name].column([value]), rows, axis=0)
        return {**columns, **added}

    def records(self, given: Sequence[Any]) -> tuple[Columns, int]:
        """Rows as objects; all name the same inputs."""
        self._check_rows(len(given))
        names = given[0].keys() if isinstance(given[0], dict) else None
        for index, row in enumerate(given):
            if not isinstance(row, dict) or names is None:
                raise RequestInvalid(f"Row {index} isn't an object", expected="every row an object by name")
            if row.keys() != names:
                odd = min(row.keys() ^ names)
                raise InputInvalid(odd, f"it in some rows and not in others (row {index} differs)", "all rows alike")
        return self._counted({name: self._field(name).column([row[name] for row in given]) for name in names or ()})

    def rows(self, given: Sequence[Any], names: Sequence[str] | None = None) -> tuple[Columns, int]:
        """Rows as lists in the order of `names`, by default of the signature; of an input that is alone but for
        parameters, its values.
        """
        self._check_rows(len(given))
        if names is None:
            if len(self._plain) == 1:
                return self._single(given)
            width = len(given[0]) if isinstance(given[0], list) else 0
            names = self.required if width == len(self.required) else self._plain
        if len(set(names)) != len(names):
            raise InputInvalid(next(n for i, n in enumerate(names) if n in names[:i]), "it twice", "each input once")
        for index, row in enumerate(given):
            if not isinstance(row, list) or len(row) != len(names):
                found = f"a list of {len(row)}" if isinstance(row, list) else "no list"
                order = ", ".join(names)[:300]
                raise RequestInvalid(f"Row {index} is {found}", expected=f"a list of {len(names)} values: {order}")
        return self._counted(
            {name: self._field(name).column([row[i] for row in given]) for i, name in enumerate(names)}
        )

    def text_rows(self, given: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[Columns, int]:
        """Rows of text, as CSV has them."""
        fields = [self._field(name) for name in names]
        typed: list[list[Any]] = []
        for index, row in enumerate(given):
            if len(row) != len(names):
                raise RequestInvalid(f"Line {index + 2} has {len(row)} cells", expected=f"{len(names)}, as the header")
            typed.append([field.parsed(cell) for field, cell in zip(fields, row, strict=True)])
        return self.rows(typed, names)

    def _single(self, given: Sequence[Any]) -> tuple[Columns, int]:
        field = self.fields[self._plain[0]]
        if field.name in self._flat and all(isinstance(row, list) and len(row) == 1 for row in given):
            given = [row[0] for row in given]
        return self._counted({field.name: field.column(list(given))})

    def _field(self, name: str) -> JsonField:
        try:
            return self.fields[name]
        except KeyError:
            raise InputUnknown(name, self.names) from None

    def _counted(self, columns: Columns) -> tuple[Columns, int]:
        if not columns:
            raise RequestInvalid("Found no inputs", expected=", ".join(self.names)[:300])
        rows = len(next(iter(columns.values())))
        self._check_rows(rows)
        return columns, rows

    def _check_rows(self, rows: int) -> None:
        if rows > self._limit:
            raise TooManyRows(rows, self._limit)
        if rows == 0:
            raise RequestInvalid("Found no rows", expected="at least one")


def as_text(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """BYTES as strings; InputInvalid where they aren't UTF-8. A tensor's elements are all bytes or all text."""
    if not array.size or type(array.item(0)) is not bytes:
        return array
    try:
        return boxed([value.decode() for value in array.flat]).reshape(array.shape)
    except UnicodeDecodeError:
        raise InputInvalid(name, "bytes that aren't UTF-8", "text") from None


def _odd_one(values: Sequence[Any], error: msgspec.ValidationError) -> str:
    """`the string 'a' in row 0`: the value that an error points to by its path, such as `$[0][2]`."""
    path = [int(index) for index in _INDEX.findall(str(error).rpartition(" - at `$")[2])]
    value: Any = values
    for index in path:
        value = value[index]
    said = _KIND.get(type(value), "an object")
    if isinstance(value, str | int | float):
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        said = f"{said} {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '…'}"
    return f"{said} in row {path[0]}" if path else said


def _nested(element: Any, depth: int) -> Any:
    for _ in range(depth):
        element = list[element]
    return element
