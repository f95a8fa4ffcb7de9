"""From named columns to what a session takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import ModelFilesInvalid, RequestInvalid
from lepton_plugins.records.signature import Signature

Columns = Mapping[str, NDArray[Any]]
Feed = dict[str, NDArray[Any]]

_NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


class SessionInput:
    """An input of the session: name, dtype, shape with -1 for what is free."""

    __slots__ = ("dtype", "name", "shape")

    def __init__(self, name: str, type: str, shape: Sequence[Any]) -> None:
        self.name = name
        self.dtype: Any = _NUMPY.get(type)
        self.shape = tuple(size if isinstance(size, int) else -1 for size in shape)


def feeder(file: Path, signature: Signature, inputs: Sequence[SessionInput]) -> Callable[[Columns], Feed]:
    """How columns become inputs, decided once: stacked into one 2-D input, or mapped by name.

    ModelFilesInvalid where the signature and the graph don't fit together.
    """
    names = signature.input_names
    for item in inputs:
        if item.dtype is None:
            raise ModelFilesInvalid(file, f"its input {item.name!r} isn't a tensor of numbers, booleans or strings")
    only = inputs[0] if len(inputs) == 1 else None
    if only is not None and signature.layout == "columns" and (len(names) > 1 or len(only.shape) == 2):
        width = only.shape[1] if len(only.shape) == 2 else -1
        if len(only.shape) != 2 or width not in (-1, len(names)):
            raise ModelFilesInvalid(
                file, f"its input {only.name!r} has shape {only.shape}, but the signature has {len(names)} columns"
            )
        return _Stacked(only, names)
    if only is not None and len(names) == 1:
        return _Mapped([(only, names[0])])
    missing = [item.name for item in inputs if item.name not in names]
    if missing:
        raise ModelFilesInvalid(
            file, f"its inputs {', '.join(missing)} aren't in the signature, which has {', '.join(names)}"
        )
    return _Mapped([(item, item.name) for item in inputs])


class _Stacked:
    """All columns side by side in the signature's order."""

    def __init__(self, target: SessionInput, names: Sequence[str]) -> None:
        self._name, self._dtype = target.name, target.dtype
        self._names = tuple(names)
        self._width = len(names)

    def __call__(self, columns: Columns) -> Feed:
        try:
            rows = len(columns[self._names[0]])
            if rows == 1 and self._dtype is not np.object_:
                # Half the time of filling a matrix column by column, which for one row is most of all time.
                row = np.concatenate([columns[name] for name in self._names])
                return {self._name: row.astype(self._dtype).reshape(1, self._width)}
            stacked = np.empty((rows, self._width), dtype=self._dtype)
            for index, name in enumerate(self._names):
                stacked[:, index] = columns[name]
        except KeyError as error:
            raise RequestInvalid(f"The input {error.args[0]!r} is missing.") from None
        return {self._name: stacked}


class _Mapped:
    """One input for each column or tensor."""

    def __init__(self, pairs: Sequence[tuple[SessionInput, str]]) -> None:
        self._pairs = [(item.name, item.dtype, len(item.shape), name) for item, name in pairs]

    def __call__(self, columns: Columns) -> Feed:
        feed: Feed = {}
        for target, dtype, rank, name in self._pairs:
            try:
                column = columns[name]
            except KeyError:
                raise RequestInvalid(f"The input {name!r} is missing.") from None
            if column.dtype != dtype and not (dtype is np.object_ and column.dtype.kind == "U"):
                column = column.astype(dtype)
            if rank == 2 and column.ndim == 1:
                column = column.reshape(-1, 1)
            feed[target] = column
        return feed
