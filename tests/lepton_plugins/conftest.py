"""Deployment directories without a registry: small real models, a plan over them, and a router."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lepton_plugins.canonical import digest_bytes
from lepton_plugins.records.around import Around
from lepton_plugins.records.plan import Allocation, Arm, DeploymentPlan, FileDigest, PolicyDocument
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.records.spec import DecisionSpec, PlanSpec, PolicySpec
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.loading import find_backend
from lepton_plugins.routing.router import Router
from lepton_plugins.testing.deployment import place_version

SALT = "00112233445566778899aabbccddeeff"


def _write_linear(path: Path, weights: Sequence[float], *, tensor: bool = False, broken: str | None = None) -> Path:
    """A logistic regression as a bare ONNX file: k float64 columns x0, x1 …, or one float32 tensor X (n, k).

    `broken="nan"`: rows whose first input is negative get NaN; `broken="fails"`: a call with such a row fails.
    """
    k = len(weights)
    nodes = []
    if tensor:
        inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", k])]
        nodes.append(helper.make_node("Identity", ["X"], ["joined"]))
    else:
        inputs = [helper.make_tensor_value_info(f"x{i}", TensorProto.DOUBLE, ["n", 1]) for i in range(k)]
        nodes.append(helper.make_node("Concat", [f"x{i}" for i in range(k)], ["wide"], axis=1))
        nodes.append(helper.make_node("Cast", ["wide"], ["joined"], to=TensorProto.FLOAT))
    constants = [
        numpy_helper.from_array(np.array(weights, dtype=np.float32).reshape(k, 1), "w"),
        numpy_helper.from_array(np.ones((1, 1), dtype=np.float32), "one"),
        numpy_helper.from_array(np.zeros((1, 1), dtype=np.float32), "zero"),
        numpy_helper.from_array(np.zeros((1,), dtype=np.int64), "first"),
    ]
    nodes.append(helper.make_node("MatMul", ["joined", "w"], ["product"]))
    score = "product"
    if broken == "nan":
        nodes += [
            helper.make_node("Gather", ["joined", "first"], ["x0_"], axis=1),
            helper.make_node("Sqrt", ["x0_"], ["root"]),
            helper.make_node("Mul", ["root", "zero"], ["nothing"]),
            helper.make_node("Add", ["product", "nothing"], ["poisoned"]),
        ]
        score = "poisoned"
    elif broken == "fails":
        nodes += [
            helper.make_node("Gather", ["joined", "first"], ["x0_"], axis=1),
            helper.make_node("Floor", ["x0_"], ["floor"]),
            helper.make_node("Sign", ["floor"], ["sign"]),
            helper.make_node("Min", ["sign", "zero"], ["below"]),
            helper.make_node("Mul", ["below", "huge"], ["far"]),
            helper.make_node("Cast", ["far"], ["index"], to=TensorProto.INT64),
            helper.make_node("Squeeze", ["index", "axis"], ["flat"]),
            helper.make_node("Gather", ["zero", "flat"], ["nothing"], axis=0),
            helper.make_node("Add", ["product", "nothing"], ["poisoned"]),
        ]
        constants += [
            numpy_helper.from_array(np.full((1, 1), 1000, dtype=np.float32), "huge"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
        ]
        score = "poisoned"
    nodes += [
        helper.make_node("Sigmoid", [score], ["positive"]),
        helper.make_node("Sub", ["one", "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def _slots_policy(shares: Mapping[str, float]) -> PolicyDocument:
    from lepton_selection.slot_table import assign

    return PolicyDocument(kind="weighted", document={"slots": assign(shares)})


def _segments_policy(column: str, table: Mapping[str, str]) -> PolicyDocument:
    cells = [
        {"value": [value], "rows": 10, "slots": [[arm, 65536]], "candidates": {}, "reason": f"best in {value}"}
        for value, arm in table.items()
    ]
    return PolicyDocument(
        kind="segment_best",
        params={"by": [column]},
        features=(column,),
        document={"by": [column], "cells": cells},
    )


def _build(
    to: Path,
    models: Mapping[str, Path],
    *,
    policy: PolicyDocument,
    context: Sequence[Field] = (),
    around: Mapping[str, Any] | None = None,
    output: str = "proba",
    classes: Sequence[str] = ("0", "1"),
    default: str | None = None,
    per: str = "row",
    trust: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    signatures: Mapping[str, Signature | None] | None = None,
    model: str = "flights",
    decisions: Mapping[str, Any] | None = None,
) -> Path:
    """A deployment directory over model files; backends, formats and signatures are what inspection says."""
    arms = []
    for version, source in models.items():
        staged = to / "models" / f"staged-{version}"
        staged.mkdir(parents=True)
        if source.is_dir():
            shutil.copytree(source, staged, dirs_exist_ok=True)
        else:
            shutil.copy(source, staged / source.name)
        digest = place_version(staged, to)
        backend, inspection = find_backend(to / "models" / digest.removeprefix("sha256:"))
        arms.append(
            Arm(
                version=version,
                label=f"v{version}",
                uri=f"models:/{model}/{version}",
                artifact_digest=digest,
                backend=backend,
                format=inspection.format,
                trust=(trust or {}).get(version),  # type: ignore[arg-type]
                signature=(signatures or {}).get(version, inspection.signature),
                share=1 / len(models),
            )
        )
    inputs: dict[str, Field] = {}
    layout: Any = "columns"
    for arm in arms:
        if arm.signature is not None:
            layout = arm.signature.layout
            for field in arm.signature.inputs:
                inputs.setdefault(field.name, field)
    for field in context:
        inputs.setdefault(field.name, field)
    if files:
        listed = tuple(FileDigest(path=name, digest=digest_bytes(content)) for name, content in sorted(files.items()))
        policy = policy.model_copy(update={"files": listed})
    plan = DeploymentPlan(
        model=model,
        salt=SALT,
        output=output,  # type: ignore[arg-type]
        classes=tuple(classes),
        signature=Signature(layout=layout, inputs=tuple(inputs.values())),
        arms=tuple(arms),
        default=default or next(iter(models)),
        policy=policy,
        around=Around.model_validate(around or {}),
        per=per,  # type: ignore[arg-type]
        allocation=Allocation(solver="fixed", status="fixed"),
        spec=PlanSpec(
            model=model,
            policy=PolicySpec(kind=policy.kind, params=policy.params),
            decisions=DecisionSpec.model_validate(decisions or {}),
        ),
    )
    write_plan(plan, files or {}, to)
    return to


@pytest.fixture(scope="session")
def write_linear() -> Callable[..., Path]:
    return _write_linear


@pytest.fixture(scope="session")
def weighted_policy() -> Callable[..., PolicyDocument]:
    """`weighted_policy({"1": 0.5, "2": 0.5})`"""
    return _slots_policy


@pytest.fixture(scope="session")
def segments_policy() -> Callable[..., PolicyDocument]:
    """`segments_policy("carrier", {"AA": "1", "UA": "2"})`"""
    return _segments_policy


@pytest.fixture(scope="session")
def build_directory() -> Callable[..., Path]:
    return _build


WEIGHTS = {"1": (1.0, -0.5, 0.25), "2": (-1.0, 0.5, 1.5), "3": (0.3, 0.3, -2.0)}


@pytest.fixture(scope="session")
def linear_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three logistic regressions over x0, x1, x2, and two that fail for negative x0."""
    folder = tmp_path_factory.mktemp("linear")
    files = {version: _write_linear(folder / version / "model.onnx", weights) for version, weights in WEIGHTS.items()}
    for broken in ("nan", "fails"):
        files[broken] = _write_linear(folder / broken / "model.onnx", WEIGHTS["2"], broken=broken)
    return files


@pytest.fixture(scope="session")
def positive() -> Callable[[str, np.ndarray], np.ndarray]:
    """What version 1, 2 or 3 of `linear_files` says of rows (n, 3): the second class's probability."""

    def expected(version: str, rows: np.ndarray) -> np.ndarray:
        weights = np.array(WEIGHTS[version], dtype=np.float32)
        return 1 / (1 + np.exp(-(rows.astype(np.float32) @ weights)))

    return expected


@pytest.fixture
def make_router(tmp_path: Path, linear_files: dict[str, Path]) -> Iterator[Callable[..., Router]]:
    """`make_router(policy=…, around=…)` over versions 1, 2 and 3 (or `models=`); closed after the test."""
    routers: list[Router] = []

    def make(
        *,
        policy: PolicyDocument,
        models: Mapping[str, Path] | None = None,
        log: Any = None,
        log_context: bool = True,
        state: Any = None,
        threads: int | None = None,
        **settings: Any,
    ) -> Router:
        chosen = models or {version: linear_files[version] for version in WEIGHTS}
        directory = _build(tmp_path / f"deployment{len(routers)}", chosen, policy=policy, **settings)
        router = Router.load(directory, log=log, log_context=log_context, state=state)
        routers.append(router)
        return router

    yield make
    for router in routers:
        router.close()
