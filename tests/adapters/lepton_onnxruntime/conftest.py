"""ONNX files made for a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper

from lepton_onnxruntime.backend import OnnxRuntimeBackend

BACKEND = OnnxRuntimeBackend()
X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
THREE = np.array(["low", "mid", "high"])[np.digitize(X[:, 0], [-0.5, 0.5])]
FRAME = pd.DataFrame(X.astype(np.float64), columns=["a", "b", "c"])


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def graph_model(nodes, inputs, outputs, constants=(), **more) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", 17), *more.pop("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, **more)


def tensor_input(name="X", k=3):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", k])


def output(name, *shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, ["n", *shape])
