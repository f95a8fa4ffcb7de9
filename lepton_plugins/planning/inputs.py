"""The router's signature: the union of the arms' inputs and the columns that only decisions need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.features import dtype_of
from lepton_plugins.records.signature import Field, Signature


def kind_of(dtype: str) -> str:
    """Numbers of any width are one kind; text, booleans, times and bytes are others; an object may be any."""
    if dtype in ("str", "bytes", "object"):
        return "text" if dtype == "str" else dtype
    kind = np.dtype(dtype).kind
    return {"b": "boolean", "M": "time", "U": "text", "S": "bytes", "O": "object"}.get(kind, "number")


def conflict(one: Signature | None, other: Signature | None, name: str) -> str | None:
    """Why a version that takes `one` can't get the same request as version `name`, which takes `other`."""
    if one is None or other is None:
        return None
    if one.layout != other.layout:
        return f"it takes {one.layout}, version {name} takes {other.layout}: one request can't be both"
    theirs = {field.name: field for field in other.inputs}
    for field in one.inputs:
        known = theirs.get(field.name)
        if known is None:
            continue
        if len({kind_of(field.dtype), kind_of(known.dtype)} - {"object"}) > 1:
            return f"its input {field.name!r} is {field.dtype}, version {name}'s is {known.dtype}"
        if not _same_shape(field.shape, known.shape):
            return f"its input {field.name!r} has shape {list(field.shape)}, version {name}'s {list(known.shape)}"
    return None


def union(signatures: Iterable[Signature | None]) -> Signature:
    """All inputs of signatures that don't conflict; numbers are widened to the type that holds both."""
    fields: dict[str, Field] = {}
    layout: Literal["columns", "tensors"] = "columns"
    for signature in signatures:
        if signature is not None:
            layout = signature.layout
            for field in signature.inputs:
                fields[field.name] = _both(fields[field.name], field) if field.name in fields else field
    return Signature(layout=layout, inputs=tuple(fields.values()))


def with_context(
    signature: Signature, context: Sequence[str], columns: Mapping[str, NDArray[Any]], key: str | None
) -> Signature:
    """A signature with the columns that only decisions need; a request may leave those out.

    `columns` are the evaluation data's, which tell the dtype of a context column; `key` is the sticky one.
    """
    known = {field.name for field in signature.inputs}
    added = [name for name in dict.fromkeys([*context, *([key] if key else [])]) if name not in known]
    fields = [
        Field(name=name, dtype=dtype_of(columns[name]) if name in columns else "object", required=False)
        for name in added
    ]
    return Signature(layout=signature.layout, inputs=(*signature.inputs, *fields))


def notes(signatures: Mapping[str, Signature | None]) -> list[str]:
    """What a reader must know of arms, by their versions, that take different inputs or don't say what they take."""
    found = []
    silent = [version for version, signature in signatures.items() if signature is None]
    told = {version: signature for version, signature in signatures.items() if signature is not None}
    if silent:
        given = "all columns of the request" if not told else "every input of the other arms"
        found.append(
            f"version {', '.join(silent)} has no signature: it is given {given}, unchecked. "
            f"Register it with a signature to have its requests checked."
        )
    takers: dict[str, list[str]] = {}
    for version, signature in told.items():
        for field in signature.inputs:
            if field.required:
                takers.setdefault(field.name, []).append(version)
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
    return Field(
        name=one.name,
        dtype=dtype,
        shape=shape,
        required=one.required or other.required,
        parameter=one.parameter and other.parameter,
    )
