"""Typed inputs of the native API: what a request's JSON is checked against, and what OpenAPI says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from bentoml.validators import DataframeSchema, TensorSchema

from lepton_plugins.errors import RequestInvalid
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.inputs import Columns, InputChecker
from lepton_plugins.serving.reader import InputReader

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import core_schema

_JSON_TYPES = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "M": "string"}


class RowReader:
    """Reads rows by a plan's signature, as the data plane does; ValueError says what doesn't fit."""

    def __init__(self, signature: Signature, limit: int) -> None:
        self._reader = InputReader(signature, limit)
        self.checker = InputChecker(signature)
        self._numbers = {field.name for field in signature.inputs if field.dtype.startswith("float")}

    def columns(self, given: Any) -> tuple[Columns, int]:
        """A list of objects by name, or an object of lists; BentoML's clients write a missing string as NaN."""
        try:
            if isinstance(given, Mapping):
                return self._reader.columns({name: self._filled(name, values) for name, values in given.items()})
            if not isinstance(given, Sequence) or isinstance(given, str):
                raise RequestInvalid(f"Found {str(given)[:80]!r}", expected="a list of objects by name")
            return self._reader.records([self._plain(row) for row in given])
        except RequestInvalid as error:
            raise ValueError(str(error)) from None

    def check(self, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows as they are, if they fit: those of several requests may be answered as one."""
        columns, rows = self.columns(given)
        try:
            self.checker.check(columns, rows)
        except RequestInvalid as error:
            raise ValueError(str(error)) from None
        return given

    def _plain(self, row: Any) -> Any:
        return {name: self._filled(name, value) for name, value in row.items()} if isinstance(row, dict) else row

    def _filled(self, name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(name, item) for item in value]
        return None if name not in self._numbers and isinstance(value, float) and math.isnan(value) else value


@attrs.frozen(unsafe_hash=True)
class RowsSchema(DataframeSchema):  # type: ignore[misc]
    """A DataFrame by a plan's signature: every row names the same inputs, none that is unknown."""

    signature: Signature | None = attrs.field(default=None, kw_only=True, eq=False)
    reader: RowReader | None = attrs.field(default=None, kw_only=True, eq=False)

    def validate(self, obj: Any) -> pd.DataFrame | Columns:
        """A frame as it is; JSON as columns, which is all that a router needs: a frame would cost as much again."""
        if hasattr(obj, "iloc"):
            frame: pd.DataFrame = obj
            return frame
        assert self.reader is not None
        return self.reader.columns(obj)[0]

    def encode(self, df: pd.DataFrame | Columns, info: core_schema.SerializationInfo) -> Any:
        """What one service of BentoML's sends to another."""
        if isinstance(df, Mapping):
            lists = [column.tolist() for column in df.values()]
            return [dict(zip(df, row, strict=True)) for row in zip(*lists, strict=True)]
        return super().encode(df, info)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        assert self.signature is not None
        described: dict[str, Any] = super().__get_pydantic_json_schema__(schema, handler)
        if handler.mode != "validation":  # BentoML's name for what OpenAPI shows; the other is for its client.
            described["items"] = row_schema(self.signature)
        return described


@attrs.frozen(unsafe_hash=True, kw_only=True)
class MatrixSchema(TensorSchema):  # type: ignore[misc]
    """An array as it is sent: BentoML's own brings it to a shape where it happens to fit.

    `depth` is its number of axes, `element` what JSON Schema calls its values.
    """

    depth: int = 2
    element: str = "number"

    def validate(self, obj: Any) -> NDArray[Any]:
        return obj if isinstance(obj, np.ndarray) else np.array(obj, dtype=self.dtype)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        described: dict[str, Any] = super().__get_pydantic_json_schema__(schema, handler)
        if handler.mode != "validation":
            described |= _nested({"type": self.element}, self.depth)
        return described


def row_schema(signature: Signature) -> dict[str, Any]:
    """JSON Schema of one row."""
    return {
        "type": "object",
        "properties": {field.name: _value_schema(field) for field in signature.inputs},
        "required": [field.name for field in signature.inputs if field.required],
    }


def matrix_of(signature: Signature) -> MatrixSchema | None:
    """What a bare array must be: the inputs in the signature's order, or the only tensor; None where it can't."""
    required = [field for field in signature.inputs if field.required]
    if signature.layout == "tensors":
        (field,) = required if len(required) == 1 else (None,)
        return _matrix(field.dtype, len(field.shape)) if field is not None and _is_number(field) else None
    if not required or not all(_is_number(field) and len(field.shape) == 1 for field in required):
        return None
    whole = all(np.dtype(field.dtype).kind in "iub" for field in required)
    return _matrix("int64" if whole else "float64", 2)


def _matrix(dtype: str, depth: int) -> MatrixSchema:
    return MatrixSchema(format="numpy-array", dtype=dtype, depth=depth)  # type: ignore[call-arg]


def _is_number(field: Field) -> bool:
    return field.dtype not in ("str", "bytes", "object") and np.dtype(field.dtype).kind in "iubf"


def _value_schema(field: Field) -> dict[str, Any]:
    kind = "" if field.dtype in ("str", "bytes", "object") else np.dtype(field.dtype).kind
    value = {} if field.dtype == "object" else {"type": _JSON_TYPES.get(kind, "string")}
    return _nested(value, len(field.shape) - 1)


def _nested(value: dict[str, Any], depth: int) -> dict[str, Any]:
    for _ in range(depth):
        value = {"type": "array", "items": value}
    return value
