"""Prints what the router costs beside the bare model: `python tests/benchmarks/router.py`.

Three small logistic regressions as ONNX over eight columns, routed by a segment; the best of many short
runs, so that other work on the machine counts little.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lepton_files.jsonl import JsonLinesDecisionLog
from lepton_plugins.records.around import Around, Degrade, Sticky
from lepton_plugins.records.plan import Allocation, Arm, DeploymentPlan, PolicyDocument
from lepton_plugins.records.resources import ResourceSpec, Slo
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.router import Router
from lepton_plugins.testing.deployment import place_version

FEATURES = 8
CARRIERS = ("AA", "UA", "WN")


def model(path: Path, weights: np.ndarray) -> None:
    """One (n, FEATURES) float32 input, probabilities (n, 2)."""
    constants = [
        numpy_helper.from_array(weights.astype(np.float32), "w"),
        numpy_helper.from_array(np.zeros(2, dtype=np.float32), "b"),
    ]
    nodes = [
        helper.make_node("Gemm", ["X", "w", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", FEATURES])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def deployment(path: Path, layout: str, degrade: Degrade | None = None) -> Path:
    """Three versions; carrier AA goes to 1, UA to 2, WN to 3."""
    names = [f"x{i}" for i in range(FEATURES)]
    if layout == "columns":
        inputs = tuple(Field(name=name, dtype="float64") for name in names)
    else:
        inputs = (Field(name="X", dtype="float32", shape=(-1, FEATURES)),)
    arms = []
    for number in range(1, 4):
        staged = path / "models" / f"staged{number}"
        model(staged / "model.onnx", np.random.default_rng(number).normal(size=(FEATURES, 2)))
        if layout == "columns":
            specs = ", ".join(f'{{"type": "double", "name": "{name}", "required": true}}' for name in names)
            (staged / "MLmodel").write_text(
                f"flavors: {{onnx: {{data: model.onnx}}}}\nsignature: {{inputs: '[{specs}]'}}\n"
            )
        digest = place_version(staged, path)
        arms.append(
            Arm(
                version=str(number),
                uri=f"models:/bench/{number}",
                artifact_digest=digest,
                backend="onnxruntime",
                format="onnx",
                signature=Signature(layout=layout, inputs=inputs),  # type: ignore[arg-type]
                share=1 / 3,
            )
        )
    cells = [
        {"value": [carrier], "rows": 1, "slots": [[str(index + 1), 65536]], "candidates": {}, "reason": "best"}
        for index, carrier in enumerate(CARRIERS)
    ]
    context = (Field(name="carrier", dtype="str", required=False), Field(name="customer", dtype="str", required=False))
    plan = DeploymentPlan(
        model="bench",
        salt="00" * 16,
        output="proba",
        classes=("0", "1"),
        signature=Signature(layout=layout, inputs=(*inputs, *context)),  # type: ignore[arg-type]
        arms=tuple(arms),
        default="1",
        policy=PolicyDocument(
            kind="segment_best",
            params={"by": ["carrier"]},
            features=("carrier",),
            document={"by": ["carrier"], "cells": cells},
        ),
        around=Around(sticky=Sticky(key="customer"), degrade=degrade),
        allocation=Allocation(solver="fixed", status="fixed"),
        spec=PlanSpec(model="bench", resources=ResourceSpec(slo=Slo(p99=0.05))),
    )
    write_plan(plan, {}, path)
    return path


def best(call: Callable[[], object], number: int, repeat: int = 300) -> float:
    """Seconds a call."""
    shortest = float("inf")
    for _ in range(repeat):
        start = perf_counter()
        for _ in range(number):
            call()
        shortest = min(shortest, (perf_counter() - start) / number)
    return shortest


def measure(folder: Path, layout: str, rows: int) -> None:
    """One row and a batch of `rows` rows by one layout of inputs."""
    random = np.random.default_rng(0)
    path = deployment(folder / layout, layout)
    router = Router.load(path)
    matrix = random.normal(size=(rows, FEATURES))
    context = {
        "carrier": random.choice(CARRIERS, rows).astype(object),
        "customer": np.array([f"customer-{i}" for i in range(rows)], dtype=object),
    }
    if layout == "tensors":
        many = {"X": matrix.astype(np.float32), **context}
    else:
        many = {**{f"x{i}": matrix[:, i].copy() for i in range(FEATURES)}, **context}
    one = {name: column[:1] for name, column in many.items()}
    model = router._answerer._arms[0].model
    session = model._session  # type: ignore[attr-defined]
    feed, feeds = {"X": matrix[:1].astype(np.float32)}, {"X": matrix.astype(np.float32)}
    raw = best(lambda: session.run(None, feed), 50)
    backend = best(lambda: model.predict(one, "proba"), 50)
    whole = best(lambda: router.predict_columns(one, 1), 50)
    print(f"{layout}: one row")
    print(f"  onnxruntime alone       {raw * 1e6:7.1f} µs")
    print(f"  backend                 {backend * 1e6:7.1f} µs")
    print(f"  router.predict_columns  {whole * 1e6:7.1f} µs   beyond onnxruntime {(whole - raw) * 1e6:.1f} µs")
    with Router.load(deployment(folder / f"{layout}-degrade", layout, Degrade(to="1"))) as degrading:
        unlike = {**one, "carrier": np.array(["UA"], dtype=object)}
        turns = [
            (best(lambda: router.predict_columns(unlike, 1), 50, 30), best(asked, 50, 30))
            for asked in [lambda: degrading.predict_columns(unlike, 1, since=perf_counter())] * 10
        ]
        added = min(with_it for _, with_it in turns) - min(without for without, _ in turns)
        print(f"  … with degrade          {(whole + added) * 1e6:7.1f} µs   beyond without {added * 1e6:.2f} µs")
    log = JsonLinesDecisionLog(folder / "log")
    with Router.load(path, log=log) as logging:
        print(f"  … with a decision log   {best(lambda: logging.predict_columns(one, 1), 50) * 1e6:7.1f} µs")
    log.close()
    seen = {"carrier": "UA"}
    print(f"  router.decide           {best(lambda: router.decide(seen, key='me'), 50) * 1e6:7.1f} µs")
    keyless = {name: column for name, column in many.items() if name != "customer"}
    bare = best(lambda: session.run(None, feeds), 1, 100)
    keyed = best(lambda: router.predict_columns(many, rows), 1, 100)
    unkeyed = best(lambda: router.predict_columns(keyless, rows), 1, 100)
    print(f"{layout}: {rows} rows, three arms")
    print(f"  onnxruntime alone       {bare / rows * 1e9:7.0f} ns a row")
    print(f"  router, no keys         {unkeyed / rows * 1e9:7.0f} ns a row")
    print(f"  router, a key a row     {keyed / rows * 1e9:7.0f} ns a row")
    router.close()


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for layout in ("tensors", "columns"):
            measure(folder, layout, 10_000)
        script = "import sys, time, resource; from lepton_plugins.routing.router import Router; "
        script += "Router.load(sys.argv[1]); "
        script += "print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        start = perf_counter()
        command = [sys.executable, "-c", script, str(folder / "columns")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        print(f"a fresh process: {perf_counter() - start:.2f} s ({float(said[0]):.2f} s CPU), {float(said[1]):.0f} MiB")


if __name__ == "__main__":
    main()
