"""From the columns of a table to the inputs that a version's signature names."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InputInvalid, InputsMissing
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.inputs import InputChecker, fit_column

if TYPE_CHECKING:
    import pandas as pd


class ModelInputs(NamedTuple):
    """What a version is given, the signature of the data's columns that it was made of, notes on what was assumed."""

    arrays: dict[str, NDArray[Any]]
    signature: Signature
    notes: list[str]


def model_inputs(
    frame: pd.DataFrame,
    signature: Signature | None,
    version: str,
    roles: Collection[str],
    slice_columns: Collection[str] = (),
) -> ModelInputs:
    """Arrays by input name, batch axis first, cast as a router casts them.

    `roles` are columns that aren't features (target, group, context); `slice_columns` are only where the
    signature names them or a tensor's width needs them. Columns beyond the signature are left out.
    InputsMissing where the data lacks one, InputInvalid where values don't fit without loss.
    """
    if signature is None:
        names = [name for name in frame.columns if name not in roles and name not in slice_columns]
        note = (
            f"no signature: it was given all columns but the target's, the slices' and the context's, in the data's "
            f"order ({', '.join(names)})"
        )
        columns = _columns(frame, names)
        return ModelInputs(columns, _signature(columns), [note])
    missing = [field.name for field in signature.inputs if field.required and field.name not in frame.columns]
    first, *more = signature.plain
    if missing and not more and len(first.shape) == 2:
        names = _matrix_columns(frame, first, roles, slice_columns)
        stacked = np.stack(list(_columns(frame, names).values()), axis=1)
        note = f"its tensor {first.name!r} was filled from the data's columns in their order: {names[0]} … {names[-1]}"
        fields = tuple(
            Field(name=name, dtype="bool" if frame[name].dtype.kind == "b" else first.dtype) for name in names
        )
        parameters = tuple(field for field in signature.parameters if field.name not in names)
        filled = Signature(inputs=(*fields, *parameters), outputs=signature.outputs)
        return ModelInputs({first.name: fit_column(first, stacked)}, filled, [note])
    if missing:
        raise InputsMissing(version, missing, frame.columns)
    there = {field.name: field for field in signature.inputs if field.name in frame.columns}
    columns = _columns(frame, list(there))
    arrays = {name: fit_column(field, columns[name]) for name, field in there.items()}
    return ModelInputs(arrays, _typed(signature, columns), [])


def dtype_of(column: NDArray[Any]) -> str:
    """A signature's dtype for a column's values: "object" where they are of mixed types."""
    if column.dtype.kind in "biuf":
        return column.dtype.name
    if column.dtype.kind == "M":
        return "datetime64[ns]"
    kinds = {type(value) for value in column.tolist() if value is not None and value == value}
    return "str" if kinds == {str} else "object"


def _signature(columns: dict[str, NDArray[Any]]) -> Signature:
    return Signature(inputs=tuple(Field(name=name, dtype=dtype_of(column)) for name, column in columns.items()))


def _typed(signature: Signature, columns: dict[str, NDArray[Any]]) -> Signature:
    """Columns that a version knows by name only, with the dtype that the data has."""
    if signature.layout != "columns":
        return signature
    fields = (
        field.model_copy(update={"dtype": dtype_of(columns[field.name])})
        if field.dtype == "object" and field.name in columns
        else field
        for field in signature.inputs
    )
    return signature.model_copy(update={"inputs": tuple(fields)})


def _columns(frame: pd.DataFrame, names: list[str]) -> dict[str, NDArray[Any]]:
    return InputChecker(None).columns_of(frame[names])[0]


def _matrix_columns(
    frame: pd.DataFrame, field: Field, roles: Collection[str], slice_columns: Collection[str]
) -> list[str]:
    """The k numeric columns that are nothing else fill one tensor (rows, k), in the data's order."""
    numeric = [name for name in frame.columns if name not in roles and frame[name].dtype.kind in "iufb"]
    width = field.shape[1]
    names = [name for name in numeric if name not in slice_columns]
    if len(names) != width == len(numeric):
        names = numeric  # Cut by a feature: only with it are there as many as the tensor has.
    if not names or width not in (-1, len(names)):
        shown = f"{', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
        raise InputInvalid(
            field.name,
            f"{len(names)} numeric feature columns ({shown})",
            f"a column {field.name!r}, or exactly {width} numeric columns to fill the tensor in their order",
        )
    return names
