"""GPU memory of an ONNX graph without a GPU: inferred shapes, and from where to where each tensor is needed."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from lepton_plugins.errors import ShapeUnknown
from lepton_plugins.gpu.memory import GpuMemory, Margins

#: The output is the input's memory with another shape.
_VIEWS = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"))


def gpu_memory(
    path: Path,
    *,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    precision: str | None = None,
    margins: Margins | None = None,
) -> GpuMemory:
    """What a session on this file holds at most when it answers `batch` rows.

    Inputs' first dimension is the batch where it is symbolic; `dims` gives other symbolic dimensions by name.
    `precision` float16 or bfloat16 counts floating-point tensors with two bytes an element. ShapeUnknown where a
    shape can't be told without running the graph.
    """
    import onnx

    model = onnx.load(str(path))
    _fix(model.graph, batch, dims or {})
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ShapeUnknown(path.name, str(error).strip().splitlines()[0]) from None
    halved = precision in ("float16", "bfloat16")
    weights = {item.name: _bytes(item.dims, item.data_type, halved) for item in graph.initializer}
    constants = {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    sizes = _sizes(graph, halved)
    activations = _peak(graph, sizes, set(weights) | constants, path.name)
    return (margins or Margins()).around(weights=sum(weights.values()), activations=activations)


def _fix(graph: Any, batch: int, dims: Mapping[str, int]) -> None:
    known = {item.name for item in graph.initializer}
    for item in graph.input:
        if item.name in known:
            continue
        for place, dim in enumerate(item.type.tensor_type.shape.dim):
            if dim.dim_param in dims:
                dim.dim_value = dims[dim.dim_param]
            elif place == 0 and not dim.HasField("dim_value"):
                dim.dim_value = batch
            elif not dim.HasField("dim_value"):
                name = dim.dim_param or f"{item.name}[{place}]"
                raise ShapeUnknown(item.name, f"its dimension {name} has no size; give it with dims={{{name!r}: …}}")
    # Old shapes of what lies between would contradict the new ones.
    del graph.value_info[:]
    for item in graph.output:
        item.type.tensor_type.ClearField("shape")


def _sizes(graph: Any, halved: bool) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for item in [*graph.input, *graph.value_info, *graph.output]:
        tensor = item.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        known = tensor.HasField("shape") and None not in dims
        found[item.name] = _bytes([dim or 0 for dim in dims], tensor.elem_type, halved) if known else None
    return found


def _bytes(dims: Any, kind: int, halved: bool) -> int:
    from onnx import TensorProto
    from onnx.helper import tensor_dtype_to_np_dtype

    floating = kind in (TensorProto.FLOAT, TensorProto.DOUBLE)
    each = 2 if halved and floating else tensor_dtype_to_np_dtype(kind).itemsize
    return int(prod(dims)) * int(each)


def _peak(graph: Any, sizes: Mapping[str, int | None], held: set[str], name: str) -> int:
    """The most bytes alive at once: a tensor is, from the node that makes it to the last one that reads it.

    Each node but a view makes a buffer of its own. ONNX Runtime puts some outputs in an input's place, which its arena
    then holds all the same from other runs: what it reuses isn't counted off.
    """
    last = {read: number for number, node in enumerate(graph.node) for read in node.input}
    last |= {item.name: len(graph.node) for item in graph.output}
    # A view shares its buffer: `owner` is the tensor whose buffer it is, `users` how many names still need it.
    owner = {item.name: item.name for item in graph.input if item.name not in held}
    users = dict.fromkeys(owner.values(), 1)
    bytes_of = {read: _known(sizes, read, name) for read in owner}
    alive = most = sum(bytes_of.values())
    for number, node in enumerate(graph.node):
        if node.op_type == "Constant":
            continue
        dying = [read for read in dict.fromkeys(node.input) if read in owner and last[read] == number]
        for made in filter(None, node.output):
            source = next(iter(node.input), None)
            if node.op_type in _VIEWS and source in owner and made == node.output[0]:
                owner[made] = owner[source]
                users[owner[made]] += 1
                continue
            size = _known(sizes, made, name)
            owner[made], users[made], bytes_of[made] = made, 1, size
            alive += size
        most = max(most, alive)
        unread = [made for made in node.output if made in owner and made not in last]
        for done in [*dying, *unread]:
            users[owner[done]] -= 1
            if not users[owner[done]]:
                alive -= bytes_of[owner[done]]
    return most


def _known(sizes: Mapping[str, int | None], tensor: str, name: str) -> int:
    size = sizes.get(tensor)
    if size is None:
        raise ShapeUnknown(name, f"the shape of the tensor {tensor!r} depends on the data")
    return size
