"""From the columns of a table to the inputs that a version's signature names."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InputInvalid, InputsMissing
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.inputs import InputChecker, fit_column

if TYPE_CHECKING:
    import pandas as pd


def model_inputs(
    frame: pd.DataFrame,
    signature: Signature | None,
    version: str,
    roles: Collection[str],
    slice_columns: Collection[str] = (),
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Arrays by input name, batch axis first, cast as a router casts them; and notes on what was assumed.

    `roles` are columns that aren't features (target, group, context); `slice_columns` may be. Columns
    beyond the signature are left out. InputsMissing where the data lacks one, InputInvalid where values
    don't fit without loss.
    """
    if signature is None:
        names = [name for name in frame.columns if name not in roles]
        note = f"no signature: it was given all columns but the target, in the data's order ({', '.join(names)})"
        return _columns(frame, names), [note]
    missing = [field.name for field in signature.inputs if field.required and field.name not in frame.columns]
    first = signature.inputs[0]
    if missing and len(signature.inputs) == 1 and len(first.shape) == 2:
        names = _matrix_columns(frame, first, roles, slice_columns)
        stacked = np.stack(list(_columns(frame, names).values()), axis=1)
        note = f"its tensor {first.name!r} was filled from the data's columns in their order: {names[0]} … {names[-1]}"
        return {first.name: fit_column(first, stacked)}, [note]
    if missing:
        raise InputsMissing(version, missing, frame.columns)
    there = {field.name: field for field in signature.inputs if field.name in frame.columns}
    columns = _columns(frame, list(there))
    return {name: fit_column(field, columns[name]) for name, field in there.items()}, []


def _columns(frame: pd.DataFrame, names: list[str]) -> dict[str, NDArray[Any]]:
    return InputChecker(None).columns_of(frame[names])[0]


def _matrix_columns(
    frame: pd.DataFrame, field: Field, roles: Collection[str], slice_columns: Collection[str]
) -> list[str]:
    """The k numeric columns that aren't the target fill one tensor (rows, k), in the data's order."""
    names = [name for name in frame.columns if name not in roles and frame[name].dtype.kind in "iufb"]
    width = field.shape[1]
    if len(names) != width:
        unsliced = [name for name in names if name not in slice_columns]
        names = unsliced if len(unsliced) == width else names
    if not names or width not in (-1, len(names)):
        shown = f"{', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
        raise InputInvalid(
            field.name,
            f"{len(names)} numeric feature columns ({shown})",
            f"a column {field.name!r}, or exactly {width} numeric columns to fill the tensor in their order",
        )
    return names
