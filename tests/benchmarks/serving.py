"""Requests a second of the data plane, beside a bare ASGI function that echoes the same bytes.

    python tests/benchmarks/serving.py [--seconds 2] [--rounds 10] [--peers] [--awake]

Both run on uvicorn (uvloop, httptools), one process each, decision log and metrics on. `lepton one` is the same data
plane with one version, asked by a segment that its policy knows, too; `--peers` adds KServe's Python server, MLflow's
scoring server and BentoML with one version each. All take turns in the same run, so that a busy machine slows all; the
ratios are what counts, round by round, with their median and the bootstrap's 95 % interval of it. One row of 30 floats.
The load comes from wrk. Where the host of a virtual machine takes time, every tail is the host's: `stolen` says how
much of all cores' time it was, and the rounds in which it took next to none are shown by themselves, too.
"""

from __future__ import annotations

import importlib.util
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import peers
import psutil
from arguments import parser
from load import Client, Load, awake

ECHO = """
import asyncio, socket, sys, uvicorn

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for said in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{said}.complete"})
        return
    message = await receive()
    body = message["body"]
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(f"echo at http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
config = uvicorn.Config(app, loop="uvloop", http="httptools", log_config=None, access_log=False, proxy_headers=False)
uvicorn.Server(config).run(sockets=[listener])
"""

FEATURES = 30


def processor_time(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def deployments() -> Any:
    """The tests' maker of deployment directories."""
    place = Path(__file__).parents[1] / "lepton_plugins" / "serving" / "conftest.py"
    spec = importlib.util.spec_from_file_location("serving_deployments", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def echo() -> Iterator[tuple[str, int]]:
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split(" at ")[1].strip(), process.pid
    finally:
        process.terminate()
        process.wait()


class Subject(NamedTuple):
    """A server under load: where, what it is sent, and the process whose time is looked at."""

    url: str
    path: str
    body: bytes
    process: int | None
    headers: dict[str, str] | None = None


def ratio(ours: list[float], theirs: list[float]) -> list[float]:
    """The median of the rounds' ratios, and the bootstrap's 95 % interval of it."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return [round(value, 3) for value in (statistics.median(ratios), medians[50], medians[1949])]


def stolen_time() -> float:
    """Seconds of processor time that a virtual machine's host has given to others, all cores together."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


class Rounds(NamedTuple):
    """What came of a subject's turns: loads, processor time a request, and the part of all cores' time that the host
    took meanwhile.
    """

    loads: list[Load]
    costs: list[float]
    stolen: list[float]

    def tail(self) -> dict[str, Any]:
        """p99 to p50: of all rounds, and of those in which the host took less than half a per cent of the time."""
        p50, p99 = ([load.p50 for load in self.loads], [load.p99 for load in self.loads])
        calm = [number for number, part in enumerate(self.stolen) if part < 0.005]
        shown: dict[str, Any] = {"p99_to_p50": ratio(p99, p50), "stolen": round(statistics.mean(self.stolen), 4)}
        if calm and len(calm) < len(self.loads):
            in_calm = ratio([p99[number] for number in calm], [p50[number] for number in calm])
            shown["p99_to_p50_in_calm"] = {"rounds": len(calm), "ratio": in_calm}
        return shown


def loads_of(subjects: dict[str, Subject], connections: int, seconds: float, rounds: int) -> dict[str, Rounds]:
    """Each subject in turn, `rounds` times after one round of warming up."""
    clients = {name: Client(s.url, s.path, s.body, connections, s.headers) for name, s in subjects.items()}
    taken = {name: Rounds([], [], []) for name in clients}
    for number in range(rounds + 1):
        for name, client in clients.items():
            process = subjects[name].process
            before = processor_time(psutil.Process(process)) if process else 0.0
            stolen, began = stolen_time(), time.perf_counter()
            load = client.run(seconds if number else 1)
            stolen, lasted = stolen_time() - stolen, time.perf_counter() - began
            if number:
                taken[name].loads.append(load)
                taken[name].stolen.append(stolen / lasted / (psutil.cpu_count() or 1))
                if process:
                    taken[name].costs.append((processor_time(psutil.Process(process)) - before) / load.requests)
    for client in clients.values():
        client.close()
    return taken


def turns(subjects: dict[str, Subject], connections: int, seconds: float, rounds: int) -> dict[str, Any]:
    """What the subjects bear, and its ratio to Lepton's."""
    taken = loads_of(subjects, connections, seconds, rounds)
    ours = taken["lepton"].loads
    shown: dict[str, Any] = {}
    for name, theirs in taken.items():
        loads = theirs.loads
        shown[name] = {
            "per_s": round(statistics.median(load.per_s for load in loads)),
            "p50_ms": round(1000 * statistics.median(load.p50 for load in loads), 3),
            "p99_ms": round(1000 * statistics.median(load.p99 for load in loads), 3),
            **theirs.tail(),
        }
        if theirs.costs:
            shown[name]["cpu_us"] = round(1e6 * statistics.median(theirs.costs), 1)
        if name != "lepton":
            shown[name]["lepton_to_it"] = ratio([load.per_s for load in ours], [load.per_s for load in loads])
            shown[name]["its_p50_to_leptons"] = ratio([load.p50 for load in loads], [load.p50 for load in ours])
    return shown


def measure(seconds: float, rounds: int, versions: int, connections: list[int], with_peers: bool) -> None:
    made = deployments()
    row = [round(0.1 * i, 3) for i in range(FEATURES)]
    inputs = [
        {"name": "X", "shape": [1, FEATURES], "datatype": "FP32", "data": row},
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["AA"]},
    ]
    body = json.dumps({"inputs": inputs}).encode()
    infer = "/v2/models/flights/infer"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        echo_url, echo_process = stack.enter_context(echo())
        subjects = {"echo": Subject(echo_url, "/", body, echo_process)}
        for name, number in (("lepton", versions), ("lepton one", 1)):
            deployment = made.build_deployment(home / name, layout="tensors", features=FEATURES, versions=number)
            decisions = str(home / f"{name} decisions")
            server = stack.enter_context(made.run_server(deployment.path, home, decisions=decisions))
            subjects[name] = Subject(server.url, infer, body, server.process.pid)
        if with_peers:
            model = next((home / "lepton one" / "models").glob("*/model.onnx"))
            others = stack.enter_context(peers.peers(model, home, row))
            subjects |= {name: Subject(peer.url, peer.path, peer.body, None) for name, peer in others.items()}
        for number in connections:
            print(json.dumps({f"{number} connections": turns(subjects, number, seconds, rounds)}, indent=2), flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--versions", type=int, default=3)
    arguments.add_argument("--awake", action="store_true", help="keep the cores from sleeping between requests")
    arguments.add_argument("--peers", action="store_true", help="KServe, MLflow and BentoML too")
    arguments.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    given = arguments.parse_args()
    with awake(given.awake):
        measure(given.seconds, given.rounds, given.versions, given.connections, given.peers)


if __name__ == "__main__":
    main()
