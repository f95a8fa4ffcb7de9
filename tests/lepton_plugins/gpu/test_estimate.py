"""The GPU memory that an evaluation notes down without a GPU, and what a plan makes of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.api import ModelRegistry
from lepton_plugins.cli.resources_table import advice_table
from lepton_plugins.display import plain_text
from lepton_plugins.errors import InvalidInput
from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate
from lepton_plugins.gpu.estimate import estimated
from lepton_plugins.gpu.onnx_graph import gpu_memory
from lepton_plugins.planning.spec_file import parse_spec

onnx = pytest.importorskip("onnx")


def network(path: Path, width: int) -> Path:
    """x (n, 4) → width → one probability."""
    helper, kind, rng = onnx.helper, onnx.TensorProto.FLOAT, np.random.default_rng(width)
    weights = {"a": rng.normal(size=(4, width)).astype(np.float32), "b": rng.normal(size=(width, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, ["n", 4])],
        [helper.make_tensor_value_info("y", kind, ["n", 1])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def evaluated(sqlite_uri: str, tmp_path: Path) -> MlflowRegistry:
    """Version 1 is a small network, version 2 a wide one; both measured where there is no GPU."""
    registry = MlflowRegistry(sqlite_uri)
    for width in (8, 200_000):
        registry.register("net", network(tmp_path / f"{width}.onnx", width), framework=None, label=None, metadata={})
    rng = np.random.default_rng(0)
    data = pd.DataFrame({f"x{i}": rng.normal(size=200) for i in range(4)})
    data["y"] = rng.random(200)
    options = EvaluationOptions(cost_seconds=0.05)
    reports = evaluate(registry, "net", data, target="y", task="regression", options=options)
    assert all(report.ok for report in reports), reports
    return registry


def test_an_estimate_stands_in_the_report_and_a_plan_counts_it(evaluated, tmp_path):
    report = evaluated.get_report("net", "2")
    found = report.resources.gpu_estimate
    assert found.how == "estimated"
    assert "at a batch of 64 rows" in found.detail
    assert found.value == gpu_memory(network(tmp_path / "again.onnx", 200_000), batch=64).total
    assert found.value > evaluated.get_report("net", "1").resources.gpu_estimate.value
    plain = parse_spec({"model": "net", "default": 1, "resources": {"budget": {"gpu": 1, "gpu_memory": "1Gi"}}})
    registry = ModelRegistry(evaluated.uri)
    free = registry.plan(plain, save=False)
    assert free.plan.allocation.used["gpu_memory"] == 0
    asked = plain.model_copy(update={"resources": plain.resources.model_copy(update={"on_gpu": ("1",)})})
    planned = registry.plan(asked, save=False)
    assert planned.plan.allocation.used["gpu"] == 1
    assert planned.plan.allocation.used["gpu_memory"] == evaluated.get_report("net", "1").resources.gpu_estimate.value
    assert any("evaluated without" in warning for warning in planned.plan.warnings)
    tight = parse_spec(
        {"model": "net", "default": 1, "resources": {"on_gpu": [1, 2], "budget": {"gpu": 2, "gpu_memory": "500Mi"}}}
    )
    rejected = {item.version: item.code for item in registry.plan(tight, save=False).plan.rejected}
    assert rejected["2"] == "over_budget"
    advised = {item.version: item for item in registry.gpu_advice(planned, "nvidia-a100-40gb")}
    assert (advised["1"].how, advised["1"].advice.kind) == ("estimated", "mig")
    shown = plain_text(advice_table(registry.gpu_advice(planned, "nvidia-a100-40gb")))
    assert "estimated" in shown
    assert "MIG profile 1g.5gb" in " ".join(shown.split())
    with pytest.raises(InvalidInput, match="nvidia-a100-40gb"):
        registry.gpu_advice(planned, "nvidia-a100-40")


def test_what_no_gpu_runs_or_nobody_can_read_has_no_estimate(trained_trees, tmp_path):
    rows = {"x": np.zeros((64, 4), dtype=np.float32)}
    assert estimated(trained_trees, SimpleNamespace(), rows) is None
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    assert estimated(broken, SimpleNamespace(), rows) is None
    assert estimated(tmp_path / "model.pkl", SimpleNamespace(native=object()), rows) is None


@pytest.fixture
def trained_trees(tmp_path: Path) -> Path:
    from skl2onnx import to_onnx
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(50, 4)).astype(np.float32)
    path = tmp_path / "trees.onnx"
    path.write_bytes(to_onnx(DecisionTreeRegressor().fit(matrix, matrix[:, 0]), matrix[:1]).SerializeToString())
    return path


def test_a_torch_module_behind_a_pyfunc_is_sized_as_it_is(tmp_path):
    torch = pytest.importorskip("torch", reason="torch isn't installed")
    from lepton_plugins.gpu.torch_module import gpu_memory as of_module

    module = torch.nn.Sequential(torch.nn.Linear(4, 1000), torch.nn.ReLU(), torch.nn.Linear(1000, 1))
    columns = {f"x{i}": np.zeros(64) for i in range(4)}
    found = estimated(tmp_path, SimpleNamespace(native=module), columns)
    assert found.value == of_module(module, [torch.zeros(64, 4)]).total
