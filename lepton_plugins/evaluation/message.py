"""Messages between the evaluating process and a version's own: one line of JSON, then the bytes of arrays."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError

#: What JSON gives back as it was.
_PLAIN = frozenset({str, int, float, bool, type(None)})


def send(
    stream: IO[bytes], message: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None, *, pickled: bool
) -> None:
    """Write a message and its arrays: of plain dtypes as their bytes, Python objects as JSON.

    Objects that JSON doesn't give back as they were (decimals, nested arrays) are pickled where `pickled`
    allows it; elsewhere they become text.
    """
    blobs = []
    heads = []
    for name, values in (arrays or {}).items():
        coding, blob = _encode(values, pickled)
        blobs.append(blob)
        head = {"name": name, "dtype": values.dtype.str, "shape": values.shape, "coding": coding, "bytes": len(blob)}
        heads.append(head)
    stream.write(json.dumps({"message": message, "arrays": heads}).encode() + b"\n")
    for blob in blobs:
        stream.write(blob)
    stream.flush()


def receive(stream: IO[bytes], *, pickled: bool) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """The next message and its arrays; None at the end of the stream.

    A pickle is read only where `pickled` says that the sender is trusted: the evaluating process trusts
    no version's.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    head = json.loads(line)
    arrays = {}
    for array in head["arrays"]:
        blob = bytearray(stream.read(array["bytes"]))
        if len(blob) < array["bytes"]:
            return None
        arrays[array["name"]] = _decode(array, blob, pickled)
    return head["message"], arrays


def told(error: BaseException) -> dict[str, Any]:
    """An error as a message; one that isn't a LeptonError has no code."""
    text = " ".join(str(error).split())
    if not isinstance(error, LeptonError):
        return {"error": f"{type(error).__name__}: {text[:500]}"}
    facts = {name: value for name, value in vars(error).items() if type(value) in _PLAIN}
    return {"error": str(error), "code": error.code, "facts": facts}


def as_told(message: Mapping[str, Any]) -> LeptonError:
    """The LeptonError that `told` put into a message: of the same class, with the same sentence."""
    kinds = {kind.code: kind for kind in _family(LeptonError)}
    kind = kinds.get(message["code"], LeptonError)
    error = kind.__new__(kind, message["error"])
    error.code = message["code"]
    vars(error).update(message["facts"])
    return error


def _family(kind: type[LeptonError]) -> list[type[LeptonError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _family(child))]


def _encode(values: NDArray[Any], pickled: bool) -> tuple[str, bytes]:
    if values.dtype.kind != "O":
        return "raw", values.tobytes()
    items = values.ravel().tolist()
    kinds = set(map(type, items))
    if not kinds <= _PLAIN:
        if kinds <= {bytes, type(None)}:
            coded = [None if item is None else base64.b64encode(item).decode() for item in items]
            return "base64", json.dumps(coded).encode()
        if pickled:
            return "pickle", pickle.dumps(values)
        items = [_plain(item) for item in items]
    return "json", json.dumps(items).encode()


def _plain(item: Any) -> Any:
    item = item.item() if isinstance(item, np.generic) else item
    return item if type(item) in _PLAIN else str(item)


def _decode(head: Mapping[str, Any], blob: bytearray, pickled: bool) -> NDArray[Any]:
    values: NDArray[Any]
    if head["coding"] == "raw":
        # The bytearray is the array's own: a model may write into its inputs.
        values = np.frombuffer(blob, dtype=head["dtype"])
    elif head["coding"] == "pickle":
        if not pickled:
            raise ValueError("a pickle from a version's process")
        values = pickle.loads(blob)
    else:
        items = json.loads(blob)
        if head["coding"] == "base64":
            items = [None if item is None else base64.b64decode(item) for item in items]
        values = np.empty(len(items), dtype=object)
        values[:] = items
    return values.reshape(head["shape"])
