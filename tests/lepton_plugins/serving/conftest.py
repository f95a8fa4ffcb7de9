"""Deployment directories of real ONNX models, and real server processes that serve them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lepton_plugins.records.around import Around
from lepton_plugins.records.plan import Allocation, Arm, DeploymentPlan, PolicyDocument
from lepton_plugins.records.resources import ResourceSpec, Slo
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.records.spec import PlanSpec, PolicySpec
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.testing.deployment import place_version

FEATURES = 4
CARRIER = Field(name="carrier", dtype="str", required=False)


def write_linear(path: Path, weights: Sequence[float], layout: str, work: int = 0) -> None:
    """A logistic regression as ONNX: one (n, k) float32 tensor `X`, or k float64 columns `x0`, `x1` …

    `work`: so many thousand multiplications more for each row, however many are answered together.
    """
    k = len(weights)
    coefficients = numpy_helper.from_array(np.array(weights, dtype=np.float32).reshape(k, 1), "w")
    nodes = []
    if layout == "tensors":
        inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", k])]
        joined = "X"
    else:
        inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.DOUBLE, ["n", 1]) for i in range(k)]
        nodes.append(helper.make_node("Concat", [f"x{i}" for i in range(k)], ["wide"], axis=1))
        nodes.append(helper.make_node("Cast", ["wide"], ["joined"], to=TensorProto.FLOAT))
        joined = "joined"
    one = numpy_helper.from_array(np.ones((1, 1), dtype=np.float32), "one")
    constants = [coefficients, one]
    nodes.append(helper.make_node("MatMul", [joined, "w"], ["product" if work else "logit"]))
    if work:
        arrays = {
            "copies": np.ones((1, work, 1), dtype=np.float32),
            "ones": np.ones((1, 32), dtype=np.float32) / 32,
            "eye": np.eye(32, dtype=np.float32),
            "second": np.array([1]),
            "third": np.array([2]),
        }
        constants += [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        nodes += [
            helper.make_node("Unsqueeze", ["product", "second"], ["row"]),
            helper.make_node("Mul", ["row", "copies"], ["many"]),
            helper.make_node("MatMul", ["many", "ones"], ["spread"]),
            helper.make_node("MatMul", ["spread", "eye"], ["same"]),
            helper.make_node("ReduceSum", ["same", "third"], ["sums"], keepdims=0),
            helper.make_node("ReduceMean", ["sums"], ["logit"], axes=[1], keepdims=1),
        ]
    nodes += [
        helper.make_node("Sigmoid", ["logit"], ["positive"]),
        helper.make_node("Sub", ["one", "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


@dataclass
class Deployment:
    """A deployment directory, with what its models compute."""

    path: Path
    plan: DeploymentPlan
    weights: dict[str, np.ndarray]

    def expected(self, version: str, rows: np.ndarray) -> np.ndarray:
        """The positive class's probability."""
        return 1 / (1 + np.exp(-(rows.astype(np.float32) @ self.weights[version])))


def build_deployment(
    path: Path,
    *,
    layout: str = "columns",
    versions: int = 3,
    features: int = FEATURES,
    policy: str = "segment_best",
    around: Mapping[str, Any] | None = None,
    per: str = "row",
    seed: int = 0,
    declared: int | None = None,
    model: str = "flights",
    work: Mapping[str, int] | None = None,
    slo: float | None = None,
) -> Deployment:
    """Versions 1 … n; with `segment_best` carrier AA goes to 1, UA to 2, WN to 3 …, anything else to 1.

    `declared` is the number of features that the signature claims, if another than the models take; `work` says by
    version how slow it is, `slo` is the plan's p99 in seconds.
    """
    random = np.random.default_rng(seed)
    if layout == "tensors":
        inputs: tuple[Field, ...] = (Field(name="X", dtype="float32", shape=(-1, declared or features)),)
    else:
        inputs = tuple(Field(name=f"x{i}", dtype="float64") for i in range(features))
    arms, weights = [], {}
    for number in range(1, versions + 1):
        version = str(number)
        weights[version] = random.normal(size=features).astype(np.float32)
        staged = path / "models" / f"staged-{version}"
        write_linear(staged / "model.onnx", weights[version].tolist(), layout, *_work(work, version))
        digest = place_version(staged, path)
        arms.append(
            Arm(
                version=version,
                label=f"v{version}",
                uri=f"models:/{model}/{version}",
                source=f"/somewhere/secret/{version}",
                artifact_digest=digest,
                framework="onnx",
                backend="onnxruntime",
                format="onnx",
                signature=Signature(layout=layout, inputs=inputs),  # type: ignore[arg-type]
                share=1 / versions,
            )
        )
    if policy == "segment_best":
        carriers = ["AA", "UA", "WN", "DL", "B6"][:versions]
        if versions > len(carriers):
            carriers = [f"C{number}" for number in range(versions)]
        cells = [
            {"value": [c], "rows": 10, "slots": [[str(i + 1), 65536]], "candidates": {}, "reason": f"best in {c}"}
            for i, c in enumerate(carriers)
        ]
        document = PolicyDocument(
            kind="segment_best",
            params={"by": ["carrier"]},
            features=("carrier",),
            document={"by": ["carrier"], "cells": cells},
        )
    else:
        counts = [65536 // versions] * versions
        counts[0] += 65536 - sum(counts)
        slots = [[str(i + 1), count] for i, count in enumerate(counts)]
        document = PolicyDocument(kind="weighted", document={"slots": slots})
    plan = DeploymentPlan(
        model=model,
        salt="00112233445566778899aabbccddeeff",
        output="proba",
        classes=("0", "1"),
        signature=Signature(layout=layout, inputs=(*inputs, CARRIER)),  # type: ignore[arg-type]
        arms=tuple(arms),
        default="1",
        policy=document,
        around=Around.model_validate(around or {}),
        per=per,  # type: ignore[arg-type]
        allocation=Allocation(solver="fixed", status="fixed"),
        spec=PlanSpec(
            model=model,
            policy=PolicySpec(kind=policy, params=document.params),
            resources=ResourceSpec(slo=Slo(p99=slo)),
        ),
    )
    write_plan(plan, {}, path)
    return Deployment(path, plan, weights)


def _work(work: Mapping[str, int] | None, version: str) -> tuple[int, ...]:
    return (work[version],) if work and version in work else ()


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Three versions over columns, routed by carrier."""
    return build_deployment(tmp_path_factory.mktemp("columns") / "flights")


@pytest.fixture(scope="session")
def tensor_deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Three versions over one tensor, routed by carrier."""
    return build_deployment(tmp_path_factory.mktemp("tensors") / "flights", layout="tensors")


@pytest.fixture(scope="session")
def make_deployment() -> Callable[..., Deployment]:
    return build_deployment


@dataclass
class RunningServer:
    url: str
    process: subprocess.Popen[str]
    ready_after: float
    said: str
    errors: Path

    def client(self, **settings: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **settings)

    @property
    def grpc_address(self) -> str:
        """Host and port of a server that was started with `grpc_port=0`."""
        found = re.search(r"and (\S+) \(gRPC\)", self.said)
        assert found is not None, self.said
        return found[1]


LAUNCH = """
import sys
from pathlib import Path
from lepton_plugins.serving.run import serve
from lepton_plugins.serving.settings import ServingSettings

settings = ServingSettings.model_validate_json(sys.argv[2])
serve(Path(sys.argv[1]), settings.host, 0, settings=settings)
"""


@contextmanager
def run_server(
    source: Path,
    log_dir: Path,
    *,
    command: Sequence[str] = (),
    python: Sequence[str] = (),
    **settings: Any,
) -> Iterator[RunningServer]:
    """A server process on a free port with these settings, or by another command; ended by SIGTERM."""
    errors = log_dir / f"stderr-{time.monotonic_ns()}.txt"
    launch = [sys.executable, *python, "-c", LAUNCH, str(source), json.dumps(settings)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEPTON_")}
    started = time.perf_counter()
    with errors.open("w") as stderr:
        process = subprocess.Popen(command or launch, stdout=subprocess.PIPE, stderr=stderr, text=True, env=inherited)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        ready_after = time.perf_counter() - started
        assert " at " in said, f"not ready: {said!r} {errors.read_text()}"
        url = said.split(" at ")[1].split()[0]
        yield RunningServer(url, process, ready_after, said, errors)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def start_server() -> Callable[..., Any]:
    return run_server


@pytest.fixture(scope="session")
def server(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The columns deployment, served on loopback with a decision log."""
    logs = tmp_path_factory.mktemp("server")
    with run_server(deployment.path, logs, decisions=str(logs / "decisions")) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def tensor_server(tensor_deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with run_server(tensor_deployment.path, tmp_path_factory.mktemp("server")) as running:
        yield running
