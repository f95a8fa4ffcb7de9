"""A hundred reloads among half a million requests: not one fails, or is answered by a plan that isn't whole.

    python tests/benchmarks/reload.py [--reloads 100] [--requests 500000] [--connections 16] [--workers 1]

Two revisions take turns under load. Each answer names its version; its value must be the one that this version
computes in one of the two revisions. Prints what was counted and how long a plan took to be everywhere.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from arguments import parser
from load import complete
from serving import FEATURES, deployments

from lepton_plugins.serving.pointer import write_pointer

CARRIERS = ("AA", "UA", "WN")


def request(row: list[float], carrier: str) -> bytes:
    inputs = [
        {"name": "X", "shape": [1, FEATURES], "datatype": "FP32", "data": row},
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": [carrier]},
    ]
    body = json.dumps({"inputs": inputs}).encode()
    head = "POST /v2/models/flights/infer HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Load:
    """Keeps connections busy until it is told to stop; counts answers, and keeps those that are wrong."""

    def __init__(self, url: str, connections: int, asked: list[bytes], right: list[set[float]]) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._sockets = [socket.create_connection((host, int(port))) for _ in range(connections)]
        self._asked, self._right = asked, right
        self.answered = 0
        self.wrong: list[str] = []
        self.stop = False

    def run(self) -> None:
        by_file = {connection.fileno(): connection for connection in self._sockets}
        pending = dict.fromkeys(by_file, b"")
        turn = dict.fromkeys(by_file, 0)
        poll = select.epoll()
        for number, connection in by_file.items():
            poll.register(number, select.EPOLLIN)
            turn[number] = number % len(self._asked)
            connection.sendall(self._asked[turn[number]])
        while not self.stop:
            for number, _ in poll.poll(1):
                connection = by_file[number]
                data = pending[number] + connection.recv(65536)
                if not data:
                    self.wrong.append("the connection was closed")
                    self.stop = True
                    break
                if not complete(data):
                    pending[number] = data
                    continue
                self._check(data, self._right[turn[number]])
                pending[number] = b""
                turn[number] = (turn[number] + 1) % len(self._asked)
                connection.sendall(self._asked[turn[number]])
        for connection in self._sockets:
            connection.close()

    def _check(self, data: bytes, right: set[float]) -> None:
        self.answered += 1
        place = data.rfind(b",")
        value = data[place + 1 : -4]
        if not data.startswith(b"HTTP/1.1 200") or min(abs(float(value) - one) for one in right) > 1e-5:
            self.wrong.append(data.decode(errors="replace")[:500])


def in_force(url: str, digest: str, workers: int) -> bool:
    shown = httpx.get(f"{url}/metrics", timeout=30).text
    found = re.search(rf'lepton_workers\{{[^}}]*digest="{digest}"[^}}]*\}} (\S+)', shown)
    return found is not None and float(found[1]) == workers


def measure(reloads: int, requests: int, connections: int, workers: int) -> dict[str, Any]:
    made = deployments()
    random = np.random.default_rng(0)
    row = random.normal(size=FEATURES).round(3)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        names, plans, built = [], [], []
        for seed in range(2):
            one = made.build_deployment(home / str(seed), layout="tensors", features=FEATURES, seed=seed)
            names.append(f"revisions/{one.plan.digest.removeprefix('sha256:')}")
            shutil.copytree(one.path, home / "state" / names[-1])
            plans.append(one.plan.digest)
            built.append(one)
        write_pointer(home / "state", names[0])
        asked = [request(row.tolist(), carrier) for carrier in CARRIERS]
        right = [{float(one.expected(str(number + 1), row)) for one in built} for number in range(len(CARRIERS))]
        settings = {"workers": workers, "decisions": str(home / "decisions"), "poll": 0.1}
        with made.run_server(home / "state", home, **settings) as server:
            load = Load(server.url, connections, asked, right)
            thread = threading.Thread(target=load.run)
            thread.start()
            taken = []
            for number in range(1, reloads + 1):
                write_pointer(home / "state", names[number % 2])
                started = time.perf_counter()
                while not in_force(server.url, plans[number % 2], workers) and not load.stop:
                    time.sleep(0.02)
                taken.append(time.perf_counter() - started)
                while load.answered < requests * number / reloads and not load.stop:
                    time.sleep(0.01)
            load.stop = True
            thread.join()
            said = server.errors.read_text()
    return {
        "reloads": reloads,
        "answered": load.answered,
        "wrong": len(load.wrong),
        "first_wrong": load.wrong[:1],
        "everywhere_after_s": {"median": round(statistics.median(taken), 3), "longest": round(max(taken), 3)},
        "said": said[-500:],
        "load": os.getloadavg()[0],
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--reloads", type=int, default=100)
    arguments.add_argument("--requests", type=int, default=500_000)
    arguments.add_argument("--connections", type=int, default=16)
    arguments.add_argument("--workers", type=int, default=1)
    given = arguments.parse_args()
    print(json.dumps(measure(given.reloads, given.requests, given.connections, given.workers), indent=2))


if __name__ == "__main__":
    main()
