"""The binary tensor data extension of the Open Inference Protocol: tensors as bytes behind the JSON.

The header `Inference-Header-Content-Length` says where the JSON ends; the tensors follow in its order,
little-endian and row-major, each as long as its parameter `binary_data_size` says; an element of BYTES is
its length in four bytes and then itself.
Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/extension_binary_data.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InputInvalid, RequestInvalid
from lepton_plugins.serving.datatypes import datatype_of, numpy_of, tensor_size

HEADER = b"inference-header-content-length"
SIZE = "binary_data_size"

_LENGTH_BYTES = 4


class BinaryPart:
    """What follows the JSON, handed out from its beginning."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._taken = 0

    def take(self, name: str, datatype: str, shape: list[int], size: Any) -> NDArray[Any]:
        """The next `size` bytes as a tensor; InputInvalid names it."""
        if type(size) is not int or size < 0:
            raise InputInvalid(name, f"`{SIZE}` {size!r}"[:100], "a number of bytes")
        end = self._taken + size
        if end > len(self._data):
            raise InputInvalid(name, f"{len(self._data) - self._taken} bytes of binary data left", f"{size}")
        raw = self._data[self._taken : end]
        self._taken = end
        return decode_binary(name, datatype, shape, raw)

    def check_end(self) -> None:
        if self._taken != len(self._data):
            left = len(self._data) - self._taken
            raise RequestInvalid(f"{left} bytes of binary data belong to no input", expected=f"`{SIZE}` in an input")


def split(headers: Mapping[bytes, bytes], body: bytes) -> tuple[bytes, BinaryPart | None]:
    """The body's JSON, and what follows it where the header says that something may."""
    said = headers.get(HEADER)
    if said is None:
        return body, None
    if not said.isdigit() or len(said) > 18 or int(said) > len(body):
        raise RequestInvalid(
            f"Found Inference-Header-Content-Length {said.decode('latin-1')[:40]!r}",
            expected=f"the length of the JSON part, at most the body's {len(body)} bytes",
        )
    length = int(said)
    return body[:length], BinaryPart(memoryview(body)[length:])


def decode_binary(name: str, datatype: str, shape: list[int], raw: memoryview) -> NDArray[Any]:
    """Bytes as a tensor of this datatype and shape, without a copy where they are aligned; InputInvalid."""
    dtype = numpy_of(name, datatype)
    count = tensor_size(name, shape)
    if dtype.kind == "O":
        elements = _elements(name, raw, count)
        return np.fromiter(elements, dtype=object, count=count).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise InputInvalid(name, f"{len(raw)} bytes", f"{count * dtype.itemsize} for the shape {shape} of {datatype}")
    if dtype.kind == "b":
        truths: NDArray[Any] = np.frombuffer(raw, dtype=np.uint8) != 0
        return truths.reshape(shape)
    values = np.frombuffer(raw, dtype=dtype.newbyteorder("<"))
    native: NDArray[Any] = (values if values.flags.aligned else values.copy()).astype(dtype, copy=False)
    return native.reshape(shape)


def encode_binary(values: NDArray[Any]) -> bytes:
    """A tensor's bytes."""
    if datatype_of(values.dtype) != "BYTES":
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return encode_elements(values.ravel())


def encode_elements(values: Iterable[Any]) -> bytes:
    """BYTES elements, each behind its length."""
    parts = bytearray()
    for value in values:
        element = value if isinstance(value, bytes) else str(value).encode()
        parts += len(element).to_bytes(_LENGTH_BYTES, "little")
        parts += element
    return bytes(parts)


def _elements(name: str, raw: memoryview, count: int) -> list[bytes]:
    data = bytes(raw)
    # Before anything is made of a claimed shape: an element takes at least its length.
    if count * _LENGTH_BYTES > len(data):
        raise InputInvalid(name, f"{len(data)} bytes", f"{count} elements, each behind its length in four bytes")
    elements = []
    place = 0
    while place < len(data):
        start = place + _LENGTH_BYTES
        place = start + int.from_bytes(data[place:start], "little")
        if place > len(data):
            raise InputInvalid(name, "an element longer than the data", "elements behind their length in four bytes")
        elements.append(data[start:place])
    if len(elements) != count:
        raise InputInvalid(name, f"{len(elements)} elements", f"{count}, as the shape says")
    return elements
