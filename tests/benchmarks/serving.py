"""Requests a second of the data plane, beside a bare ASGI function that echoes the same bytes.

    python tests/benchmarks/serving.py [--seconds 2] [--rounds 5]

Both run on uvicorn (uvloop, httptools), one process each, decision log and metrics on. They take turns in
the same run, so that a busy machine slows both; the ratio is what counts, and the processor time a request
costs, which other processes disturb least. One row of 30 floats as V2 JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

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


class Client:
    """Keeps `connections` requests in flight on raw sockets; counts answers and their latency."""

    def __init__(self, url: str, path: str, body: bytes, connections: int) -> None:
        host, port = url.removeprefix("http://").split(":")
        head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        self._request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        self._sockets = []
        for _ in range(connections):
            connection = socket.create_connection((host, int(port)))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.append(connection)

    def run(self, seconds: float) -> tuple[float, list[float]]:
        """Requests a second, and each request's latency in seconds."""
        by_file = {connection.fileno(): connection for connection in self._sockets}
        sent = dict.fromkeys(by_file, 0.0)
        pending = dict.fromkeys(by_file, b"")
        poll = select.epoll()
        for number in by_file:
            poll.register(number, select.EPOLLIN)
        latencies: list[float] = []
        clock = time.perf_counter
        started = clock()
        for number, connection in by_file.items():
            sent[number] = clock()
            connection.sendall(self._request)
        while True:
            for number, _ in poll.poll():
                connection = by_file[number]
                data = pending[number] + connection.recv(65536)
                if not complete(data):
                    pending[number] = data
                    continue
                if not data.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(data.decode())
                pending[number] = b""
                now = clock()
                latencies.append(now - sent[number])
                if now - started > seconds:
                    del sent[number]
                    poll.unregister(number)
                    if not sent:
                        return len(latencies) / (now - started), latencies
                    continue
                sent[number] = now
                connection.sendall(self._request)

    def close(self) -> None:
        for connection in self._sockets:
            connection.close()


def complete(data: bytes) -> bool:
    """Whether a response has arrived with all of its content-length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    place = data.find(b"content-length: ") + 16
    return len(data) >= end + 4 + int(data[place : data.index(b"\r", place)])


def processor_time(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


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


def measure(seconds: float, rounds: int, versions: int) -> dict[str, Any]:
    made = deployments()
    row = [round(0.1 * i, 3) for i in range(FEATURES)]
    inputs = [
        {"name": "X", "shape": [1, FEATURES], "datatype": "FP32", "data": row},
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
    ]
    body = json.dumps({"inputs": inputs}).encode()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        deployment = made.build_deployment(home / "dir", layout="tensors", features=FEATURES, versions=versions)
        with (
            echo() as (echo_url, echo_process),
            made.run_server(deployment.path, home, decisions=str(home / "decisions")) as server,
        ):
            for connections in (1, 8):
                clients = {
                    "echo": Client(echo_url, "/", body, connections),
                    "lepton": Client(server.url, "/v2/models/flights/infer", body, connections),
                }
                rates: dict[str, list[float]] = {name: [] for name in clients}
                latencies: dict[str, list[float]] = {name: [] for name in clients}
                costs: dict[str, list[float]] = {name: [] for name in clients}
                processes = {"echo": psutil.Process(echo_process), "lepton": psutil.Process(server.process.pid)}
                for number in range(rounds + 1):
                    for name, client in clients.items():
                        before = processor_time(processes[name])
                        rate, taken = client.run(seconds if number else 0.5)
                        cost = (processor_time(processes[name]) - before) / len(taken)
                        if number:  # The first round warms up.
                            rates[name].append(rate)
                            latencies[name] += taken
                            costs[name].append(cost)
                for client in clients.values():
                    client.close()
                ratios = [ours / bare for ours, bare in zip(rates["lepton"], rates["echo"], strict=True)]
                results[f"{connections} connections"] = {
                    "echo_per_s": round(statistics.median(rates["echo"])),
                    "lepton_per_s": round(statistics.median(rates["lepton"])),
                    "echo_cpu_us": round(1e6 * statistics.median(costs["echo"]), 1),
                    "lepton_cpu_us": round(1e6 * statistics.median(costs["lepton"]), 1),
                    "cpu_ratio": round(statistics.median(costs["echo"]) / statistics.median(costs["lepton"]), 3),
                    "ratio": round(statistics.median(ratios), 3),
                    "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
                    "p50_ms": round(1000 * percentile(latencies["lepton"], 0.5), 3),
                    "p99_ms": round(1000 * percentile(latencies["lepton"], 0.99), 3),
                    "echo_p50_ms": round(1000 * percentile(latencies["echo"], 0.5), 3),
                }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--versions", type=int, default=3)
    given = parser.parse_args()
    print(json.dumps(measure(given.seconds, given.rounds, given.versions), indent=2))


if __name__ == "__main__":
    main()
