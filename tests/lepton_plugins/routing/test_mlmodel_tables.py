"""ONNX graphs that converters make of tables: one input of shape (rows, 1) a column."""

from __future__ import annotations

from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.mlmodel import as_table


def _tensors(*shapes: tuple[int, ...]) -> Signature:
    fields = tuple(Field(name=f"x{i}", dtype="int64", shape=shape) for i, shape in enumerate(shapes))
    return Signature(layout="tensors", inputs=fields)


def test_tensors_of_one_value_a_row_are_columns() -> None:
    table = as_table(_tensors((-1, 1), (-1,)))
    assert table.layout == "columns"
    assert [field.shape for field in table.inputs] == [(-1,), (-1,)]


def test_a_signature_with_a_real_tensor_stays_as_it_is() -> None:
    tensors = _tensors((-1, 1), (-1, 8))
    assert as_table(tensors) is tensors
