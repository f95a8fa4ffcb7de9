"""The router's signature: the union of the arms' inputs and the columns that only decisions need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.signature import Field, Signature

if TYPE_CHECKING:
    from lepton_plugins.planning.candidates import Candidate


def kind_of(dtype: str) -> str:
    """Numbers of any width are one kind; text, booleans, times and bytes are others; an object may be any."""
    if dtype in ("str", "bytes", "object"):
        return "text" if dtype == "str" else dtype
    kind = np.dtype(dtype).kind
    return {"b": "boolean", "M": "time", "U": "text", "S": "bytes", "O": "object"}.get(kind, "number")


def conflict(one: Candidate, other: Candidate) -> str | None:
    """Why two versions can't take the same request; None if they can."""
    if one.signature is None or other.signature is None:
        return None
    if one.signature.layout != other.signature.layout:
        return (
            f"it takes {one.signature.layout}, version {other.name} takes {other.signature.layout}: "
            f"one request can't be both"
        )
    theirs = {field.name: field for field in other.signature.inputs}
    for field in one.signature.inputs:
        known = theirs.get(field.name)
        if known is None:
            continue
        kinds = {kind_of(field.dtype), kind_of(known.dtype)} - {"object"}
        if len(kinds) > 1:
            return f"its input {field.name!r} is {field.dtype}, version {other.name}'s is {known.dtype}"
        if not _same_shape(field.shape, known.shape):
            return f"its input {field.name!r} has shape {list(field.shape)}, version {other.name}'s {list(known.shape)}"
    return None


def router_signature(
    candidates: Sequence[Candidate], context: Sequence[str], columns: Mapping[str, NDArray[Any]], key: str | None
) -> Signature:
    """All arms' inputs, then context columns and the sticky key, which a request may leave out.

    `columns` are the evaluation data's, which tell the dtype of a context column. Number types are
    widened to the one that holds both without loss.
    """
    fields: dict[str, Field] = {}
    layout = "columns"
    for candidate in candidates:
        signature = candidate.signature
        if signature is None:
            continue
        layout = signature.layout
        for field in signature.inputs:
            fields[field.name] = _both(fields[field.name], field) if field.name in fields else field
    for name in dict.fromkeys([*context, *([key] if key else [])]):
        if name not in fields:
            dtype = _dtype(columns[name]) if name in columns else "object"
            fields[name] = Field(name=name, dtype=dtype, required=False)
    return Signature(layout="tensors" if layout == "tensors" else "columns", inputs=tuple(fields.values()))


def notes(candidates: Sequence[Candidate]) -> list[str]:
    """What a reader must know of arms that take different inputs, or don't say what they take."""
    found = []
    silent = [item.name for item in candidates if item.signature is None]
    told = [item for item in candidates if item.signature is not None]
    if silent:
        given = "all columns of the request" if not told else "every input of the other arms"
        found.append(
            f"version {', '.join(silent)} has no signature: it is given {given}, unchecked. "
            f"Register it with a signature to have its requests checked."
        )
    takers: dict[str, list[str]] = {}
    for item in told:
        for field in item.signature.inputs if item.signature else ():
            if field.required:
                takers.setdefault(field.name, []).append(item.name)
    partly = {name: by for name, by in takers.items() if len(by) < len(told)}
    for by in sorted({tuple(by) for by in partly.values()}):
        names = ", ".join(repr(name) for name in partly if tuple(partly[name]) == by)
        found.append(
            f"the input {names} is taken by version {', '.join(by)} only; every request must carry it, since the "
            f"version is chosen after the request is read"
        )
    return found


def _same_shape(one: Sequence[int], other: Sequence[int]) -> bool:
    if len(one) != len(other):
        return False
    return all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _both(one: Field, other: Field) -> Field:
    dtype = one.dtype
    if kind_of(one.dtype) == "object":
        dtype = other.dtype
    elif kind_of(one.dtype) == kind_of(other.dtype) == "number":
        dtype = np.result_type(one.dtype, other.dtype).name
    shape = tuple(max(a, b) for a, b in zip(one.shape, other.shape, strict=True))
    return Field(name=one.name, dtype=dtype, shape=shape, required=one.required or other.required)


def _dtype(column: NDArray[Any]) -> str:
    if column.dtype.kind in "biuf":
        return column.dtype.name
    if column.dtype.kind == "M":
        return "datetime64[ns]"
    present = next((value for value in column.tolist() if value is not None), None)
    return "str" if isinstance(present, str) else "object"
