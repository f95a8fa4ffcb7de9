"""Tensors of 1 × 3 × 224 × 224 fp32: Lepton's binary V2 beside KServe's JSON and KServe's own binary V2.

    python tests/benchmarks/tensors.py [--seconds 2] [--rounds 5] [--connections 1 8]

One process each, taking turns in the same run, on the same ONNX graph (the mean of each channel, then a linear
layer), so that what is measured is the way of 602 KB into it; Lepton routes three versions of it by a segment.
Asked for: at least 5 × KServe's JSON, and no less than KServe's binary (which makes a list of the numbers when it
reads the bytes, `InferRequest.from_bytes` in KServe 0.21, and so is no faster than its JSON).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import peers
from arguments import parser
from load import JSON
from onnx import TensorProto, helper, numpy_helper
from serving import Subject, deployments, turns

from lepton_plugins.records.signature import Field
from lepton_plugins.routing.directory import write_plan

SHAPE = (1, 3, 224, 224)
INFER = "/v2/models/flights/infer"


def write_image(path: Path, weights: Sequence[float], layout: str) -> None:
    """Probabilities (n, 2) of images `X`, (n, 3, 224, 224) float32."""
    matrix = np.stack([-np.array(weights), np.array(weights)], axis=1).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["X"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("MatMul", ["means", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
    ]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", *SHAPE[1:]])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "image", inputs, outputs, [numpy_helper.from_array(matrix, "w")])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def image_deployment(made: Any, path: Path) -> Path:
    """Three versions, routed by carrier."""
    made.write_linear = write_image
    plan = made.build_deployment(path, layout="tensors", features=SHAPE[1]).plan
    images = plan.signature.inputs[0].model_copy(update={"shape": (-1, *SHAPE[1:])})
    arms = [
        arm.model_copy(update={"signature": arm.signature.model_copy(update={"inputs": (images,)})})
        for arm in plan.arms
    ]
    carrier: Field = plan.signature.inputs[1]
    signature = plan.signature.model_copy(update={"inputs": (images, carrier)})
    write_plan(plan.model_copy(update={"signature": signature, "arms": tuple(arms)}), {}, path)
    return path


def request(image: np.ndarray, *, binary: bool, carrier: bool) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a V2 request; its answer comes in the same form."""
    tensor: dict[str, Any] = {"name": "X", "shape": list(image.shape), "datatype": "FP32"}
    head: dict[str, Any] = {"inputs": [tensor]}
    if carrier:
        head["inputs"].append({"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]})
    if not binary:
        tensor["data"] = image.ravel().tolist()
        return json.dumps(head).encode(), JSON
    raw = image.tobytes()
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head["parameters"] = {"binary_data_output": True}
    text = json.dumps(head).encode()
    return text + raw, {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(text)),
    }


def measure(seconds: float, rounds: int, connections: list[int]) -> None:
    made = deployments()
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        deployment = image_deployment(made, home / "lepton")
        server = stack.enter_context(made.run_server(deployment, home, decisions=str(home / "decisions")))
        subjects = {}
        for name, binary in (("lepton", True), ("lepton json", False)):
            body, headers = request(image, binary=binary, carrier=True)
            subjects[name] = Subject(server.url, INFER, body, server.process.pid, headers)
        model = next((deployment / "models").glob("*/model.onnx"))
        plain, _ = request(image, binary=False, carrier=False)
        peer = stack.enter_context(peers.kserve(model, home, plain))
        for name, binary in (("kserve binary", True), ("kserve json", False)):
            body, headers = request(image, binary=binary, carrier=False)
            subjects[name] = Subject(peer.url, peer.path, body, None, headers)
        for number in connections:
            shown = turns(subjects, number, seconds, rounds)
            said = {"load": [round(value, 1) for value in os.getloadavg()], f"{number} connections": shown}
            print(json.dumps(said, indent=2), flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    given = arguments.parse_args()
    measure(given.seconds, given.rounds, given.connections)


if __name__ == "__main__":
    main()
