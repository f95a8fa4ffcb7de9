"""What `around.degrade` saves when load rises beyond what the accurate version bears, and the quality that it costs.

    python tests/benchmarks/overload.py [--seconds 5] [--slo 0.25] [--copies 16000] [--trace]

Handwritten digits. Version 2 averages a neural network over noisy copies of a row, so that a row costs some
milliseconds however many are answered together; version 1 is a logistic regression of a coarser picture. All
traffic is version 2's. Its capacity is measured first, by requests that wait for each other; then requests come
at fixed times, whether or not earlier ones are answered: at 0.5, 3 and again 0.5 times the capacity, with
`degrade` and without, in turns. Latency counts from the time at which a request was to be sent (no coordinated
omission). A request violates the SLO where no good answer has come within it: late, refused or never. Server and
generator share the machine.
"""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from arguments import parser
from load import complete
from onnx import TensorProto, helper, numpy_helper
from serving import deployments
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from lepton_plugins.records.around import Around
from lepton_plugins.records.plan import Allocation, Arm, DeploymentPlan, PolicyDocument
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.testing.deployment import place_version

PIXELS = 64
STEPS = (0.5, 3.0, 0.5)
CONNECTIONS = 512


def write(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> None:
    """A graph from `X` (n, PIXELS) to `probabilities` (n, 10)."""
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", PIXELS])]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def write_accurate(path: Path, model: MLPClassifier, copies: int) -> None:
    noise = np.random.default_rng(0).normal(0, 1.0, size=(1, copies, PIXELS)).astype(np.float32)
    constants = {"noise": noise, "axis": np.array([1])}
    nodes = [helper.make_node("Unsqueeze", ["X", "axis"], ["row"]), helper.make_node("Add", ["row", "noise"], ["h0"])]
    for layer, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        constants |= {f"w{layer}": weights.astype(np.float32), f"b{layer}": bias.astype(np.float32)}
        nodes.append(helper.make_node("MatMul", [f"h{layer}", f"w{layer}"], [f"m{layer}"]))
        last = layer == len(model.coefs_) - 1
        nodes.append(helper.make_node("Add", [f"m{layer}", f"b{layer}"], ["logits" if last else f"a{layer}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"a{layer}"], [f"h{layer + 1}"]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["each"], axis=2))
    nodes.append(helper.make_node("ReduceMean", ["each"], ["probabilities"], axes=[1], keepdims=0))
    write(path, nodes, constants)


def coarse(rows: np.ndarray) -> np.ndarray:
    """Pixels four by four."""
    means: np.ndarray = rows.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(len(rows), 16)
    return means


def write_fast(path: Path, model: LogisticRegression) -> None:
    pool = coarse(np.eye(PIXELS)).astype(np.float32)
    constants = {"w": (pool @ model.coef_.T).astype(np.float32), "b": model.intercept_.astype(np.float32)}
    nodes = [
        helper.make_node("Gemm", ["X", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    write(path, nodes, constants)


class Task(NamedTuple):
    """Test rows as requests, their labels, and the versions' accuracy on all of them."""

    requests: list[bytes]
    labels: list[int]


def build(home: Path, copies: int, slo: float) -> tuple[dict[str, Path], Task]:
    """One deployment with `degrade` and one without, of the same versions."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    x, y = data.data, data.target
    accurate = MLPClassifier((128,), max_iter=400, random_state=0).fit(x[train], y[train])
    fast = LogisticRegression(max_iter=2000).fit(coarse(x[train]), y[train])
    inputs = (Field(name="X", dtype="float32", shape=(-1, PIXELS)),)
    signature = Signature(layout="tensors", inputs=inputs)
    made = {}
    for name, around in (("without", {}), ("degrade", {"degrade": {"to": "1"}})):
        path, arms = home / name, []
        for version, share in (("1", 0.0), ("2", 1.0)):
            staged = path / "models" / f"staged{version}"
            if version == "1":
                write_fast(staged / "model.onnx", fast)
            else:
                write_accurate(staged / "model.onnx", accurate, copies)
            digest = place_version(staged, path)
            arms.append(
                Arm(
                    version=version,
                    uri=f"models:/digits/{version}",
                    artifact_digest=digest,
                    backend="onnxruntime",
                    format="onnx",
                    signature=signature,
                    share=share,
                )
            )
        spec = PlanSpec.model_validate({"model": "digits", "around": around, "resources": {"slo": {"p99": slo}}})
        plan = DeploymentPlan(
            model="digits",
            salt="00" * 16,
            output="proba",
            classes=tuple(map(str, range(10))),
            signature=signature,
            arms=tuple(arms),
            default="2",
            policy=PolicyDocument(kind="weighted", document={"slots": [["2", 65536]]}),
            around=Around.model_validate(around),
            allocation=Allocation(solver="fixed", status="fixed"),
            spec=spec,
        )
        write_plan(plan, {}, path)
        made[name] = path
    requests = []
    for row in x[test]:
        tensor = {"name": "X", "shape": [1, PIXELS], "datatype": "FP32", "data": row.tolist()}
        body = json.dumps({"inputs": [tensor]}).encode()
        head = "POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        requests.append(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return made, Task(requests, y[test].tolist())


class Outcome(NamedTuple):
    """One request: when it was to be sent, seconds from then to its answer (None: never), and the answer."""

    at: float
    took: float | None
    answer: bytes
    row: int


class Generator:
    """Sends requests at given times over as many connections as it takes, up to CONNECTIONS."""

    def __init__(self, url: str, requests: list[bytes]) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._requests = requests
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(CONNECTIONS):
            made = socket.create_connection((host, int(port)))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setblocking(False)
            self._sockets[made.fileno()] = made
            self._poll.register(made.fileno(), select.EPOLLIN)

    def run(self, times: list[float], patience: float = 5.0) -> list[Outcome]:
        """Open loop: `times` in seconds from now; what isn't answered `patience` after the last is never."""
        free = deque(self._sockets)
        busy: dict[int, int] = {}
        parts = dict.fromkeys(self._sockets, b"")
        ended: dict[int, tuple[float, bytes]] = {}
        waiting: deque[int] = deque()
        clock = time.perf_counter
        start, number = clock(), 0
        while len(ended) < len(times):
            now = clock() - start
            if now > times[-1] + patience:
                break
            while number < len(times) and times[number] <= now:
                waiting.append(number)
                number += 1
            while waiting and free:
                file, one = free.popleft(), waiting.popleft()
                busy[file] = one
                self._sockets[file].send(self._requests[one % len(self._requests)])
            wait = times[number] - (clock() - start) if number < len(times) else 0.05
            for file, _ in self._poll.poll(max(wait, 0.0)):
                data = parts[file] + self._sockets[file].recv(65536)
                if not complete(data):
                    parts[file] = data
                    continue
                parts[file] = b""
                ended[busy.pop(file)] = (clock() - start, data)
                free.append(file)
        self._drain(set(busy), parts)
        count = len(self._requests)
        return [
            Outcome(at, ended[i][0] - at if i in ended else None, ended[i][1] if i in ended else b"", i % count)
            for i, at in enumerate(times)
        ]

    def _drain(self, files: set[int], parts: dict[int, bytes]) -> None:
        """Answers that come too late belong to no later run."""
        while files:
            for file, _ in self._poll.poll(30.0):
                parts[file] += self._sockets[file].recv(65536)
                if complete(parts[file]):
                    files.discard(file)

    def saturate(self, seconds: float, connections: int) -> float:
        """Closed loop: requests a second with so many always on their way."""
        files = list(self._sockets)[:connections]
        parts = dict.fromkeys(files, b"")
        clock, sent, answered = time.perf_counter, 0, 0
        start = clock()
        for file in files:
            self._sockets[file].send(self._requests[sent % len(self._requests)])
            sent += 1
        while answered < sent:
            for file, _ in self._poll.poll():
                parts[file] += self._sockets[file].recv(65536)
                if complete(parts[file]):
                    parts[file] = b""
                    answered += 1
                    took = clock() - start
                    if took < seconds:
                        self._sockets[file].send(self._requests[sent % len(self._requests)])
                        sent += 1
        return answered / (clock() - start)

    def close(self) -> None:
        for connection in self._sockets.values():
            connection.close()


class Phase(NamedTuple):
    """What became of a step's requests."""

    requests: int
    violations: int
    refused: int
    never: int
    accurate: float
    correct: float
    p50: float
    p99: float


def read(outcomes: list[Outcome], task: Task, slo: float) -> Phase:
    versions, correct, refused, never, good = [], 0, 0, 0, 0
    took = []
    for one in outcomes:
        if one.took is None:
            never += 1
            continue
        if not one.answer.startswith(b"HTTP/1.1 200"):
            refused += 1
            continue
        took.append(one.took)
        good += one.took <= slo
        body = json.loads(one.answer.partition(b"\r\n\r\n")[2])
        versions.append(body["model_version"])
        correct += int(np.argmax(body["outputs"][0]["data"])) == task.labels[one.row]
    took.sort()
    answered = max(len(took), 1)
    return Phase(
        len(outcomes),
        len(outcomes) - good,
        refused,
        never,
        versions.count("2") / answered,
        correct / answered,
        took[len(took) // 2] if took else float("nan"),
        took[min(int(len(took) * 0.99), len(took) - 1)] if took else float("nan"),
    )


def steps(capacity: float, seconds: float) -> tuple[list[float], list[int]]:
    """Times of all requests, and the step of each."""
    times, which, begin = [], [], 0.0
    for step, part in enumerate(STEPS):
        rate = part * capacity
        number = int(seconds * rate)
        times += [begin + i / rate for i in range(number)]
        which += [step] * number
        begin += seconds
    return times, which


def measure(seconds: float, slo: float, copies: int, rounds: int, trace: bool) -> None:
    made = deployments()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        paths, task = build(home, copies, slo)
        generators = {}
        for name, path in paths.items():
            server = stack.enter_context(made.run_server(path, home))
            generators[name] = Generator(server.url, task.requests)
        plain = generators["without"]
        one = plain.saturate(2.0, 1)
        capacity = statistics.median([plain.saturate(3.0, 16) for _ in range(3)])
        generators["degrade"].saturate(1.0, 1)
        print(f"version 2 alone: {1000 / one:.1f} ms a request by itself, {capacity:.0f} requests/s at most")
        print(f"SLO {1000 * slo:.0f} ms; load of the machine before: {os.getloadavg()[0]:.1f}")
        print(f"{'':10}{'load':>7}{'requests':>10}{'violations':>19}{'refused':>9}{'p50 ms':>8}{'p99 ms':>8}", end="")
        print(f"{'by version 2':>14}{'correct':>9}")
        sums = dict.fromkeys(generators, 0)
        for _ in range(rounds):
            for name, generator in generators.items():
                times, which = steps(capacity, seconds)
                outcomes = generator.run(times)
                for step, part in enumerate(STEPS):
                    own = [item for item, at in zip(outcomes, which, strict=True) if at == step]
                    found = read(own, task, slo)
                    sums[name] += found.violations
                    share = f"{found.violations} ({100 * found.violations / found.requests:.2f} %)"
                    print(
                        f"{name:10}{part:>6.1f}×{found.requests:>10,}{share:>19}{found.refused + found.never:>9,}"
                        f"{1000 * found.p50:>8.1f}{1000 * found.p99:>8.1f}{100 * found.accurate:>12.1f} %"
                        f"{100 * found.correct:>7.1f} %",
                        flush=True,
                    )
                if trace:
                    show(outcomes, task, slo)
                time.sleep(1.0)
        ratio = sums["without"] / max(sums["degrade"], 1)
        print(f"violations: {sums['without']:,} without, {sums['degrade']:,} with: {ratio:.0f} times fewer")
        print(f"load of the machine after: {os.getloadavg()[0]:.1f}")
        for generator in generators.values():
            generator.close()


def show(outcomes: list[Outcome], task: Task, slo: float) -> None:
    """Second by second."""
    for second in range(5 * int(outcomes[-1].at) + 5):
        own = [item for item in outcomes if int(5 * item.at) == second]
        if not own:
            continue
        found = read(own, task, slo)
        print(f"    {second / 5:>5.1f} s {found.violations:>6} of {found.requests}, by version 2 {found.accurate:.2f}")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=5.0, help="of each step")
    arguments.add_argument("--slo", type=float, default=0.25, help="in seconds")
    arguments.add_argument("--copies", type=int, default=16000, help="of a row that version 2 averages over")
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--trace", action="store_true", help="each second too")
    given = arguments.parse_args()
    measure(given.seconds, given.slo, given.copies, given.rounds, given.trace)


if __name__ == "__main__":
    main()
