"""What a model version takes and gives."""

from __future__ import annotations

from typing import Literal

from lepton_plugins.records.record import Record


class Field(Record):
    """One input or output: a column, or a tensor.

    `dtype` is numpy's name ("float64", "int64", "bool", "str", "bytes", "datetime64[ns]", "object").
    `shape` is per request, batch axis first, -1 for any length; a column has shape (-1,). A `parameter` is an input
    that a request gives once for all rows, or leaves out: MLflow's ParamSpec. A list has shape (-1, -1), and a date is
    ISO 8601 text: whether it is a date or a time is told by how it is written.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = (-1,)
    required: bool = True
    parameter: bool = False


class Signature(Record):
    """Inputs and outputs of a version.

    `layout` says how a request names the inputs: "columns" (a table: one value a row and name) or
    "tensors" (arrays by name). An empty `outputs` means that the version doesn't say.
    """

    layout: Literal["columns", "tensors"] = "columns"
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...] = ()

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.inputs)

    @property
    def plain(self) -> tuple[Field, ...]:
        """The inputs that aren't parameters."""
        return tuple(field for field in self.inputs if not field.parameter)

    @property
    def parameters(self) -> tuple[Field, ...]:
        return tuple(field for field in self.inputs if field.parameter)
