"""ONNX: a `.onnx` file with the files of external data beside it, and the signature from its graph."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lepton_mlflow.layouts.contents import is_onnx, require
from lepton_mlflow.layouts.layout import Layout, installed, pyfunc, requirement
from lepton_plugins.errors import FrameworkMismatch

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

#: ONNX Runtime's tensor types and numpy's names.
_DTYPES = {"float": "float32", "double": "float64", "string": "str", "float16": "float16", "bool": "bool"} | {
    f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def lay_out(path: Path) -> Layout:
    model = _model_file(path)
    require(is_onnx(model), model, "onnx", "an ONNX graph")
    return Layout(
        framework="onnx",
        flavors={
            "onnx": {
                "onnx_version": installed("onnx"),
                "data": "model.onnx",
                "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
                "code": None,
            },
            "python_function": pyfunc("mlflow.onnx", data="model.onnx"),
        },
        # MLflow's loader looks for MLmodel beside the file, and ONNX for external data there.
        files={"model.onnx": model} | {file.name: file for file in _external_data(model)},
        requirements=[requirement("onnx"), requirement("onnxruntime")],
        signature=_signature(model),
    )


def _model_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.onnx"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "no .onnx file"
        raise FrameworkMismatch(path, "onnx", names, "one .onnx file")
    return found[0]


def _external_data(model: Path) -> list[Path]:
    """Files beside the model whose names stand in its bytes: ONNX names external data by relative path."""
    siblings = [file for file in sorted(model.parent.iterdir()) if file.is_file() and file != model]
    with model.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [file for file in siblings if content.find(file.name.encode()) >= 0]


def _signature(model: Path) -> ModelSignature | None:
    """From the graph, by ONNX Runtime where it is installed. Symbolic sizes are -1.

    Outputs that aren't tensors (scikit-learn's list of dictionaries) can't be said in a signature: then it
    has no outputs.
    """
    if installed("onnxruntime") is None and installed("onnxruntime-gpu") is None:
        return None
    import onnxruntime
    from mlflow.models import ModelSignature

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = str(error)
        if "Protobuf parsing failed" in text or "INVALID_PROTOBUF" in text:
            raise FrameworkMismatch(model, "onnx", "a file that isn't an ONNX graph", "an ONNX graph") from None
        return None  # Custom operators, or another machine's provider: the files are still good.
    inputs, outputs = _schema(session.get_inputs()), _schema(session.get_outputs())
    return ModelSignature(inputs=inputs, outputs=outputs) if inputs is not None else None


def _schema(nodes: list[Any]) -> Any:
    import numpy as np
    from mlflow.types import ColSpec, Schema, TensorSpec

    specs: list[ColSpec | TensorSpec] = []
    for node in nodes:
        dtype = _DTYPES.get(node.type.removeprefix("tensor(").removesuffix(")"))
        if dtype is None or not node.type.startswith("tensor("):
            return None
        shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
        specs.append(TensorSpec(np.dtype(dtype), shape or (-1,), node.name))
    return Schema(specs) if specs else None
