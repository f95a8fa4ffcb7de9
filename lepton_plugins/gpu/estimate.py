"""What a version would hold on a GPU, told from its files where it is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.report import Quantity

if TYPE_CHECKING:
    from lepton_plugins.routing.backend import LoadedModel

#: Operators of trees, linear models and text: ONNX Runtime has no GPU kernels for them.
_CPU_ONLY = "ai.onnx.ml"


def estimated(path: Path, model: LoadedModel, columns: Mapping[str, NDArray[Any]]) -> Quantity | None:
    """GPU memory in bytes when these rows are answered at once, without a GPU; None where nothing tells it.

    Of an ONNX graph that a GPU can run, or of the torch module behind a loaded version (its `native`). A figure for
    planning never fails a report: what can't be read, or has shapes that depend on the data, has none.
    """
    rows = len(next(iter(columns.values())))
    graphs = [path] if path.suffix == ".onnx" else sorted(path.rglob("*.onnx"))
    try:
        found = _of_graph(graphs[0], columns, rows) if len(graphs) == 1 else _of_module(model, columns)
    except Exception:  # Whatever a stranger's file makes onnx or torch raise.
        return None
    if found is None:
        return None
    return found.model_copy(update={"detail": f"{found.detail}; at a batch of {rows} rows"})


def _of_graph(file: Path, columns: Mapping[str, NDArray[Any]], rows: int) -> Quantity | None:
    import onnx

    from lepton_plugins.gpu.onnx_graph import gpu_memory

    graph = onnx.load(str(file), load_external_data=False).graph
    if any(node.domain == _CPU_ONLY for node in graph.node):
        return None
    dims: dict[str, int] = {}
    for item in graph.input:
        shape = columns[item.name].shape if item.name in columns else ()
        for dim, size in zip(item.type.tensor_type.shape.dim, shape, strict=False):
            if dim.dim_param:
                dims[dim.dim_param] = size
    return gpu_memory(file, batch=rows, dims=dims).quantity


def _of_module(model: LoadedModel, columns: Mapping[str, NDArray[Any]]) -> Quantity | None:
    module = getattr(model, "native", None)
    if not any(kind.__module__.startswith("torch.nn") for kind in type(module).__mro__):
        return None
    import torch

    from lepton_plugins.gpu.torch_module import gpu_memory

    if all(values.ndim == 1 for values in columns.values()):
        # A table's columns are one matrix to a module, as MLflow hands it over.
        matrix = np.stack([values.astype(np.float32) for values in columns.values()], axis=1)
        return gpu_memory(module, [torch.as_tensor(matrix)]).quantity
    given = {name: torch.as_tensor(values) for name, values in columns.items()}
    # One tensor goes by place: what a module calls its input isn't what the signature calls it.
    return gpu_memory(module, list(given.values()) if len(given) == 1 else given).quantity
