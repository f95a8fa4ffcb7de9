"""What an ONNX file says of itself, read without loading it and without the `onnx` package.

A reader of just the protobuf fields that matter (field numbers: onnx.proto3 of ONNX 1.17); the rest is
skipped by length, so that a file of gigabytes costs little. It tells what ONNX Runtime doesn't: files that
hold the weights, operators that need a native library, the classes of a classifier.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lepton_onnxruntime.wire import delimited, integers, message_fields, text
from lepton_plugins.errors import ModelFilesInvalid

Buffer = memoryview

#: Operator domains that ONNX Runtime has built in.
BUILT_IN_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    }
)

#: TensorProto.DataType → numpy's name.
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "str",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}

_CLASS_ATTRIBUTES = frozenset({"classlabels_strings", "classlabels_int64s", "classlabels_ints"})
_CLASSIFIERS = frozenset({"LinearClassifier", "TreeEnsembleClassifier", "SVMClassifier"})


@dataclass(slots=True)
class Tensor:
    """A graph input or output. `dtype` is None for what isn't a tensor (a sequence of maps)."""

    name: str
    dtype: str | None
    shape: tuple[int, ...]


@dataclass(slots=True)
class OnnxGraph:
    """The facts of a model: `classes` are strings or ints in the order of the probability columns.

    `zip_maps` gives for each output that is a sequence of maps the tensor it is made of; `makers` the
    operator that makes each output (through Identity and Cast).
    """

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    external_files: set[str] = field(default_factory=set)
    domains: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    classes: list[Any] = field(default_factory=list)
    zip_maps: dict[str, str] = field(default_factory=dict)
    makers: dict[str, str] = field(default_factory=dict)

    @property
    def custom_domains(self) -> tuple[str, ...]:
        """Domains whose operators only a native library could bring."""
        return tuple(sorted(self.domains - self.functions - BUILT_IN_DOMAINS))


def read_graph(path: Path) -> OnnxGraph:
    """Read the file at `path`; ModelFilesInvalid where it isn't ONNX."""
    if path.stat().st_size == 0:
        raise ModelFilesInvalid(path, "the ONNX file is empty")
    graph = OnnxGraph()
    with path.open("rb") as stream:
        # Closed with its last view: a view that an error's traceback holds would forbid closing it here.
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        _model(memoryview(content), graph)
    except (IndexError, ValueError, RecursionError):
        raise ModelFilesInvalid(path, "it isn't a valid ONNX file") from None
    if not graph.inputs and not graph.outputs:
        raise ModelFilesInvalid(path, "it isn't an ONNX model: it has neither inputs nor outputs")
    return graph


def with_output(model: bytes, tensor: str) -> bytes:
    """The model with one more graph output: an inner tensor.

    Protobuf merges a message field that is repeated in the stream, so appending a graph that holds
    nothing but the output adds it to the model's own ("Last One Wins", protobuf's encoding guide).
    """
    name = tensor.encode()
    return model + delimited(7, delimited(12, delimited(1, name)))


# --- the messages --------------------------------------------------------------------------------


def _model(message: Buffer, facts: OnnxGraph) -> None:
    for number, value in message_fields(message):
        if number == 7:
            _graph(value, facts, top=True)
        elif number == 25:
            _function(value, facts)


def _function(message: Buffer, facts: OnnxGraph) -> None:
    for number, value in message_fields(message):
        if number == 7:
            _node(value, facts)
        elif number == 10:
            facts.functions.add(text(value))


def _graph(message: Buffer, facts: OnnxGraph, *, top: bool = False) -> None:
    initializers: dict[str, Buffer] = {}
    inputs: list[Tensor] = []
    made: dict[str, tuple[str, str]] = {}
    for number, value in message_fields(message):
        if number == 1:
            made.update(_node(value, facts, top=top))
        elif number == 5:
            initializers[_tensor(value, facts)] = value
        elif number == 15:
            _sparse(value, facts)
        elif top and number == 11:
            inputs.append(_value_info(value))
        elif top and number == 12:
            facts.outputs.append(_value_info(value))
    if not top:
        return
    # Before IR version 4 initializers were listed as inputs too.
    facts.inputs.extend(item for item in inputs if item.name not in initializers)
    for output in facts.outputs:
        maker, source = made.get(output.name, ("", ""))
        while maker in ("Identity", "Cast") and source in made:
            maker, source = made[source]
        facts.makers[output.name] = maker
    if not facts.classes and "classes" in initializers:
        facts.classes = _tensor_values(initializers["classes"])


def _node(message: Buffer, facts: OnnxGraph, *, top: bool = False) -> dict[str, tuple[str, str]]:
    """Notes the node's domain, weights and classes; returns output → (operator, first input)."""
    operator = domain = ""
    inputs: list[str] = []
    outputs: list[str] = []
    attributes: list[tuple[str, list[Any]]] = []
    for number, value in message_fields(message):
        if number == 1:
            inputs.append(text(value))
        elif number == 2:
            outputs.append(text(value))
        elif number == 4:
            operator = text(value)
        elif number == 5:
            attributes.append(_attribute(value, facts))
        elif number == 7:
            domain = text(value)
    facts.domains.add(domain)
    if top and domain == "ai.onnx.ml" and (operator == "ZipMap" or operator in _CLASSIFIERS):
        for name, values in attributes:
            if name in _CLASS_ATTRIBUTES and values and (operator == "ZipMap" or not facts.classes):
                facts.classes = values
        if operator == "ZipMap" and inputs and outputs:
            facts.zip_maps[outputs[0]] = inputs[0]
    return dict.fromkeys(outputs, (operator, inputs[0] if inputs else ""))


def _attribute(message: Buffer, facts: OnnxGraph) -> tuple[str, list[Any]]:
    name = ""
    values: list[Any] = []
    for number, value in message_fields(message):
        if number == 1:
            name = text(value)
        elif number in (5, 10):
            _tensor(value, facts)
        elif number in (6, 11):
            _graph(value, facts)
        elif number in (22, 23):
            _sparse(value, facts)
        elif number == 8 and name in _CLASS_ATTRIBUTES:
            values.extend(integers(value))
        elif number == 9 and name in _CLASS_ATTRIBUTES:
            values.append(text(value))
        elif number in (7, 8, 9) and name:
            # A list of plain values, stored one field each: a forest has millions of them, none of interest.
            break
    return name, values


def _tensor(message: Buffer, facts: OnnxGraph) -> str:
    """Notes a tensor's external file; returns its name."""
    name = ""
    for number, value in message_fields(message):
        if number == 8:
            name = text(value)
        elif number == 13:
            entry = {key: text(content) for key, content in message_fields(value)}
            if entry.get(1) == "location":
                facts.external_files.add(entry.get(2, ""))
    return name


def _tensor_values(message: Buffer) -> list[Any]:
    """The values of a small tensor of strings or integers; others give none."""
    dtype = 0
    values: list[Any] = []
    raw = b""
    for number, value in message_fields(message):
        if number == 2 and isinstance(value, int):
            dtype = value
        elif number == 6:
            values.append(text(value))
        elif number in (5, 7):
            values.extend(integers(value))
        elif number == 9:
            raw = bytes(value)
    if raw and dtype in (6, 7):
        size = 4 if dtype == 6 else 8
        values = [int.from_bytes(raw[i : i + size], "little", signed=True) for i in range(0, len(raw), size)]
    return values if dtype in (6, 7, 8) else []


def _sparse(message: Buffer, facts: OnnxGraph) -> None:
    for number, value in message_fields(message):
        if number in (1, 2):
            _tensor(value, facts)


def _value_info(message: Buffer) -> Tensor:
    name = ""
    dtype: str | None = None
    shape: list[int] = []
    for number, value in message_fields(message):
        if number == 1:
            name = text(value)
        elif number == 2:
            for kind, content in message_fields(value):
                if kind != 1:
                    continue
                for part, inner in message_fields(content):
                    if part == 1 and isinstance(inner, int):
                        dtype = _DTYPES.get(inner, "object")
                    elif part == 2:
                        shape = [_dimension(item) for index, item in message_fields(inner) if index == 1]
    return Tensor(name, dtype, tuple(shape))


def _dimension(message: Buffer) -> int:
    return next((value for number, value in message_fields(message) if number == 1 and isinstance(value, int)), -1)
