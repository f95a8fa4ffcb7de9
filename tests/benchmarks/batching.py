"""Micro-batching: 64 connections to a model whose batch of 32 costs about 3 × one row, with and without it.

    python tests/benchmarks/batching.py [--seconds 3] [--rounds 5] [--connections 64]

The same data plane twice in the same run, taking turns; in the second one each request is answered by a call of
its own. What a batch of 32 costs is measured first and printed. Asked for: at least 5 × the throughput.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import onnxruntime
from arguments import parser
from onnx import TensorProto, helper, numpy_helper
from serving import Subject, deployments, turns

WIDTH, LAYERS, WAVES = 1280, 7, 4

WITHOUT = """
import sys
from pathlib import Path
from lepton_plugins.routing.micro_batch import MicroBatches
from lepton_plugins.routing.router import Router
from lepton_plugins.serving.run import serve
from lepton_plugins.serving.settings import ServingSettings

MicroBatches.predict = lambda self, columns, rows: self._predict(columns, rows)
Router.merges = False
settings = ServingSettings.model_validate_json(sys.argv[2])
serve(Path(sys.argv[1]), settings.host, 0, settings=settings)
"""


def write_deep(path: Path, weights: Sequence[float], layout: str) -> None:
    """Layers whose weights are read once for a batch, and sines, which cost each row the same."""
    random = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(random.normal(size=(len(weights), WIDTH)).astype(np.float32), "first"),
        numpy_helper.from_array(random.normal(size=(WIDTH, 2)).astype(np.float32) / WIDTH**0.5, "last"),
    ]
    nodes = [helper.make_node("MatMul", ["X", "first"], ["layer0"])]
    for number in range(LAYERS):
        matrix = random.normal(size=(WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5
        constants.append(numpy_helper.from_array(matrix, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [f"layer{number}", f"w{number}"], [f"z{number}"]))
        nodes.append(helper.make_node("Tanh", [f"z{number}"], [f"layer{number + 1}"]))
    waves = [f"layer{LAYERS}", *(f"wave{number}" for number in range(WAVES - 1)), "hidden"]
    nodes += [helper.make_node("Sin", [before], [after]) for before, after in pairwise(waves)]
    nodes += [
        helper.make_node("MatMul", ["hidden", "last"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", len(weights)])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "deep", inputs, outputs, constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def costs(model: Path, features: int) -> dict[str, float]:
    """Milliseconds of one row and of 32 in one call, on one thread, in turns; medians."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    taken: dict[int, list[float]] = {1: [], 32: []}
    for _ in range(60):
        for rows, measured in taken.items():
            x = np.ones((rows, features), dtype=np.float32)
            start = perf_counter()
            session.run(None, {"X": x})
            measured.append(1000 * (perf_counter() - start))
    one, batch = (statistics.median(taken[rows]) for rows in (1, 32))
    return {"one_ms": round(one, 2), "batch_of_32_ms": round(batch, 2), "ratio": round(batch / one, 2)}


def measure(seconds: float, rounds: int, connections: int) -> None:
    made = deployments()
    made.write_linear = write_deep
    x = {"name": "X", "shape": [1, made.FEATURES], "datatype": "FP32", "data": [0.5] * made.FEATURES}
    body = json.dumps({"inputs": [x]}).encode()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        deployment = made.build_deployment(home / "deployment", layout="tensors", versions=1, policy="weighted").path
        print(json.dumps(costs(next((deployment / "models").glob("*/model.onnx")), made.FEATURES)), flush=True)
        subjects = {}
        for name, command in (("lepton", []), ("without", [sys.executable, "-c", WITHOUT, str(deployment), "{}"])):
            server = stack.enter_context(made.run_server(deployment, home, command=command))
            subjects[name] = Subject(server.url, "/v2/models/flights/infer", body, server.process.pid)
        shown = turns(subjects, connections, seconds, rounds)
        said = {"load": [round(value, 1) for value in os.getloadavg()], f"{connections} connections": shown}
        print(json.dumps(said, indent=2), flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--connections", type=int, default=64)
    given = arguments.parse_args()
    measure(given.seconds, given.rounds, given.connections)


if __name__ == "__main__":
    main()
