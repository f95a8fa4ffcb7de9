"""From the columns of a table to the inputs that a version's signature names."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InputInvalid, InputsMissing
from lepton_plugins.records.signature import Field, Signature

if TYPE_CHECKING:
    import pandas as pd


def model_inputs(
    frame: pd.DataFrame,
    signature: Signature | None,
    version: str,
    roles: Collection[str],
    slice_columns: Collection[str] = (),
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Arrays by input name, batch axis first, in the dtypes of the signature; and notes on what was assumed.

    `roles` are columns that aren't features (target, group, context); `slice_columns` may be. Columns
    beyond the signature are left out. InputsMissing where the data lacks one, InputInvalid where values
    don't fit its dtype.
    """
    if signature is None:
        names = [name for name in frame.columns if name not in roles]
        note = f"no signature: it was given all columns but the target, in the data's order ({', '.join(names)})"
        return {name: _plain(frame[name]) for name in names}, [note]
    missing = [f.name for f in signature.inputs if f.required and f.name not in frame.columns]
    matrix = signature.inputs[0]
    if missing and len(signature.inputs) == 1 and len(matrix.shape) == 2:
        return _matrix(frame, matrix, version, roles, slice_columns)
    if missing:
        raise InputsMissing(version, missing, frame.columns)
    there = [f for f in signature.inputs if f.name in frame.columns]
    return {f.name: convert(frame[f.name], f, version) for f in there}, []


def _matrix(
    frame: pd.DataFrame, field: Field, version: str, roles: Collection[str], slice_columns: Collection[str]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """One tensor (rows, k) from the k numeric columns that aren't the target, in the data's order."""
    names = [name for name in frame.columns if name not in roles and frame[name].dtype.kind in "iufb"]
    width = field.shape[1]
    if len(names) != width:
        unsliced = [name for name in names if name not in slice_columns]
        names = unsliced if len(unsliced) == width else names
    if not names or (width >= 0 and len(names) != width):
        raise InputInvalid(
            version,
            field.name,
            f"{len(names)} numeric feature columns ({', '.join(names[:8])}{' …' if len(names) > 8 else ''})",
            f"a column {field.name!r}, or exactly {width} of them to fill the tensor in their order",
        )
    single = Field(name=field.name, dtype=field.dtype)
    stacked = np.stack([convert(frame[name], single, version) for name in names], axis=1)
    return {field.name: stacked}, [
        f"the tensor {field.name!r} was filled from the columns in the data's order: {names[0]} … {names[-1]}"
    ]


def convert(series: pd.Series[Any], field: Field, version: str) -> NDArray[Any]:
    """A column in the dtype and shape of a signature's field; what would lose information is refused."""
    if len(field.shape) > 1:
        return _tensor(series, field, version)
    dtype = field.dtype
    try:
        if dtype.startswith("datetime64"):
            import pandas as pd

            return pd.to_datetime(series).to_numpy().astype("datetime64[ns]")
        if dtype == "str":
            return _text(series)
        if dtype in ("object", "bytes"):
            return _plain(series).astype(object)
        kind = np.dtype(dtype).kind
        if kind == "f":
            return series.to_numpy(dtype=np.float64, na_value=np.nan).astype(dtype)
        if kind not in "iub":
            raise ValueError(f"unknown dtype {dtype}")
    except (TypeError, ValueError) as error:
        found = f"{series.dtype} values that don't convert ({str(error)[:120]})"
        raise InputInvalid(version, field.name, found, dtype) from None
    return _whole_numbers(series, field, version)


def _whole_numbers(series: pd.Series[Any], field: Field, version: str) -> NDArray[Any]:
    if lacking := int(series.isna().sum()):
        found = f"{lacking} of {len(series)} values missing"
        raise InputInvalid(version, field.name, found, f"{field.dtype}, which has no missing values")
    try:
        # A column of integers never passes through floats: they would lose digits above 2**53.
        values = series.to_numpy() if series.dtype.kind in "iub" else series.to_numpy(dtype=np.float64)
        cast = values.astype(field.dtype)
    except (TypeError, ValueError):
        raise InputInvalid(version, field.name, f"values such as {series.iloc[0]!r}", field.dtype) from None
    if not np.array_equal(cast, values):
        wrong = values[cast != values][0]
        raise InputInvalid(version, field.name, f"values such as {wrong}", field.dtype)
    return cast


def _text(series: pd.Series[Any]) -> NDArray[Any]:
    missing = series.isna().to_numpy()
    texts = [None if gone else str(value) for value, gone in zip(series.array, missing, strict=True)]
    values = np.empty(len(texts), dtype=object)
    values[:] = texts
    return values


def _tensor(series: pd.Series[Any], field: Field, version: str) -> NDArray[Any]:
    try:
        stacked = np.stack([np.asarray(value, dtype=field.dtype) for value in series])
        stacked = stacked.reshape((len(series), *field.shape[1:])) if stacked.ndim != len(field.shape) else stacked
    except (TypeError, ValueError):
        raise InputInvalid(
            version, field.name, f"values such as {str(series.iloc[0])[:60]!r}", str(field.shape)
        ) from None
    if any(want >= 0 and want != have for want, have in zip(field.shape[1:], stacked.shape[1:], strict=True)):
        raise InputInvalid(version, field.name, f"arrays of shape {stacked.shape[1:]}", f"{field.shape[1:]}")
    return stacked


def _plain(series: pd.Series[Any]) -> NDArray[Any]:
    """numpy as it is; text and mixed columns as objects with None for missing values."""
    if series.dtype.kind in "iufbM":
        return series.to_numpy(na_value=np.nan) if series.dtype.kind == "f" else series.to_numpy()
    return series.astype(object).where(series.notna(), None).to_numpy(dtype=object)
