"""The Open Inference Protocol's tensor datatypes and numpy's.

Source: Open Inference Protocol V2, "Tensor Data Types" and "Tensor Data" (JSON: flat or nested row-major).
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InputInvalid

#: BYTES is an object array: of str from JSON, of bytes from a binary tensor.
NUMPY = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}

_NAMES = {dtype: name for name, dtype in NUMPY.items()}


def _floats(largest: float) -> Any:
    return list[Annotated[float, msgspec.Meta(ge=-largest, le=largest)] | None]


#: What JSON may hold, by datatype, else by numpy's kind. A null float is NaN: JSON has no other way to write it.
_LIST: dict[str, Any] = {
    "b": list[bool],
    "i": list[int],
    "u": list[int],
    "f": list[float | None],
    "O": list[str],
    "FP16": _floats(65504.0),
    "FP32": _floats(3.4028234663852886e38),
}
_LISTS = {name: _LIST.get(name, _LIST[dtype.kind]) for name, dtype in NUMPY.items()}
_FLAT = {name: msgspec.json.Decoder(listed) for name, listed in _LISTS.items()}
_ANY = msgspec.json.Decoder()
_LONGEST = 2**31


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name for a dtype; strings, dates and objects travel as BYTES."""
    return _NAMES.get(dtype, "BYTES")


def numpy_of(name: str, datatype: str) -> np.dtype[Any]:
    """numpy's dtype for the protocol's name; InputInvalid names the tensor."""
    dtype = NUMPY.get(datatype)
    if dtype is None:
        raise InputInvalid(name, f"datatype {datatype[:40]!r}", "one of " + ", ".join(NUMPY))
    return dtype


def decode_tensor(name: str, datatype: str, shape: list[int], data: msgspec.Raw) -> NDArray[Any]:
    """A tensor's JSON data as an array of its datatype and shape; InputInvalid names the tensor."""
    dtype = numpy_of(name, datatype)
    size = tensor_size(name, shape)
    try:
        values = _FLAT[datatype].decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if not len(memoryview(data)):
            raise InputInvalid(name, "no data", "`data`, a list of values") from None
        values = _flatten(name, datatype, shape, data, error)
    if len(values) != size:
        raise InputInvalid(name, f"{len(values)} values", f"{size} for the shape {shape}")
    try:
        if dtype.kind == "O":
            array = np.empty(size, dtype=object)
            array[:] = values
        else:
            array = np.array(values, dtype=dtype)
    except OverflowError:
        raise InputInvalid(name, f"a value out of the range of {datatype}", f"{datatype} values") from None
    return array if len(shape) == 1 else array.reshape(shape)


def tensor_size(name: str, shape: list[int]) -> int:
    """How many values a shape holds; InputInvalid unless it has a batch axis and no negative length."""
    if not shape or len(shape) > 16 or min(shape) < 0 or max(shape) > _LONGEST:
        raise InputInvalid(name, f"shape {str(shape)[:80]}", "1 to 16 lengths of at least 0, the batch axis first")
    size = math.prod(shape)
    if not size and math.prod(filter(None, shape)) > _LONGEST:
        raise InputInvalid(name, f"shape {str(shape)[:80]}", "lengths that an array can have")  # numpy has no such one.
    return size


def _flatten(name: str, datatype: str, shape: list[int], data: msgspec.Raw, error: Exception) -> list[Any]:
    """Nested lists, whose nesting must be the shape's; anything else is the error that flat decoding gave."""
    try:
        values = _ANY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InputInvalid(name, f"data that isn't {datatype} ({error})", f"{datatype} values") from None
    for depth, length in enumerate(shape[1:], start=1):
        if not isinstance(values, list) or not all(isinstance(part, list) and len(part) == length for part in values):
            if depth == 1 and not (isinstance(values, list) and any(isinstance(part, list) for part in values)):
                break  # It was meant to be flat.
            raise InputInvalid(name, "data nested otherwise than its shape", f"lists nested as the shape {shape}")
        if depth == 1 and len(values) != shape[0]:
            raise InputInvalid(name, f"{len(values)} lists", f"{shape[0]} for the shape {shape}")
        values = [value for part in values for value in part]
    try:
        flat: list[Any] = msgspec.convert(values, _LISTS[datatype])
    except msgspec.ValidationError:
        raise InputInvalid(name, f"data that isn't {datatype} ({error})", f"{datatype} values") from None
    return flat
