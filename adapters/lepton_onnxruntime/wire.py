"""Protobuf's wire format, as far as ONNX files use it (protobuf.dev, "Encoding")."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def message_fields(message: Any) -> Iterator[tuple[int, Any]]:
    """(field number, value): an int for varints, a view for delimited fields, raw bytes for fixed ones."""
    if not isinstance(message, memoryview):
        raise ValueError("a message was expected")
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
        elif wire in (1, 2, 5):
            size = 8 if wire == 1 else 4
            if wire == 2:
                size, position = _varint(message, position)
            if position + size > end:
                raise ValueError("a field is longer than its message")
            yield key >> 3, message[position : position + size]
            position += size
        else:
            raise ValueError(f"wire type {wire} isn't used by ONNX")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a varint is too long")


def integers(value: Any) -> list[int]:
    """The signed integers of a field, packed or one by one."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers = []
    position = 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(_signed(number))
    return numbers


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def text(value: Any) -> str:
    """A string field."""
    if not isinstance(value, memoryview):
        raise ValueError("a string was expected")
    return bytes(value).decode("utf-8")


def delimited(number: int, content: bytes) -> bytes:
    """A field of bytes, encoded."""
    return _encode_varint(number << 3 | 2) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
