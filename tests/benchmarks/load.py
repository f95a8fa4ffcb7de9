"""Requests kept in flight against a server: for seconds by wrk (https://github.com/wg/wrk; Debian's package `wrk`), or
for slices of a second by this process, so that two servers can be compared from one moment to the next.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

JSON = {"content-type": "application/json"}

SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
done = function(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format(
    "RESULT %d %d %f %f %d\\n", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    failed.connect + failed.read + failed.write + failed.status + failed.timeout
  ))
end
"""


class Load(NamedTuple):
    """What came of a time under load; latencies in seconds."""

    requests: int
    per_s: float
    p50: float
    p99: float


class Client:
    """Keeps `connections` requests in flight: the same bytes again and again, each answer awaited."""

    def __init__(
        self, url: str, path: str, body: bytes, connections: int, headers: dict[str, str] | None = None
    ) -> None:
        if shutil.which("wrk") is None:
            raise SystemExit("The load comes from wrk, which isn't installed: `apt install wrk`, `brew install wrk`.")
        self._url, self._connections = url + path, connections
        self._folder = tempfile.TemporaryDirectory(prefix="lepton-load-")
        file = Path(self._folder.name) / "body"
        file.write_bytes(body)
        lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in (headers or JSON).items()]
        self._script = Path(self._folder.name) / "post.lua"
        self._script.write_text(SCRIPT.format(body=file, headers="\n".join(lines)))

    def run(self, seconds: float) -> Load:
        """So many seconds, rounded up to whole ones. RuntimeError where a request failed."""
        whole = max(1, round(seconds + 0.49))
        command = [
            "wrk",
            "-t1",
            f"-c{self._connections}",
            f"-d{whole}s",
            "--timeout",
            "30s",
            "-s",
            self._script,
            self._url,
        ]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60 + whole, check=True).stdout
        line = next(line for line in said.splitlines() if line.startswith("RESULT"))
        requests, micros, p50, p99, failed = (float(word) for word in line.split()[1:])
        if failed or not requests:
            raise RuntimeError(f"{self._url}: {failed:.0f} of {requests:.0f} requests failed\n{said}")
        return Load(int(requests), 1e6 * requests / micros, p50 / 1e6, p99 / 1e6)

    def close(self) -> None:
        self._folder.cleanup()


class Slices:
    """As `Client`, for as short as is wanted: its connections stay open, and idle, from one slice to the next.

    A request costs this process some 12 µs: enough for servers that spend ten times that on it.
    """

    def __init__(self, url: str, path: str, body: bytes, connections: int) -> None:
        at = urlsplit(url)
        head = f"POST {path} HTTP/1.1\r\nhost: {at.netloc}\r\ncontent-type: application/json\r\n"
        self._url, self._request = url + path, f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        self._poll, self._connections = select.epoll(), dict[int, socket.socket]()
        for _ in range(connections):
            connection = socket.create_connection((at.hostname, at.port), timeout=30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)

    def run(self, seconds: float) -> Load:
        """Until every request sent within `seconds` is answered. RuntimeError where one failed."""
        clock = time.perf_counter
        begun = clock()
        sent: dict[int, float] = {}
        parts: dict[int, bytes] = {}
        taken: list[float] = []
        for file, connection in self._connections.items():
            sent[file] = clock()
            connection.sendall(self._request)
        while sent:
            for file, _ in self._poll.poll(30):
                connection = self._connections[file]
                data = parts.pop(file, b"") + connection.recv(65536)
                if not data.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"{self._url}: a request failed: {data[:500]!r}")
                if not complete(data):
                    parts[file] = data
                    continue
                now = clock()
                taken.append(now - sent.pop(file))
                if now < begun + seconds:
                    sent[file] = clock()
                    connection.sendall(self._request)
        ordered = sorted(taken)
        per_s = len(taken) / (clock() - begun)
        return Load(len(taken), per_s, statistics.median(ordered), ordered[99 * len(ordered) // 100])

    def close(self) -> None:
        self._poll.close()
        for connection in self._connections.values():
            connection.close()


@contextmanager
def awake(wanted: bool) -> Iterator[None]:
    """Whether the cores are kept at work, which gives way to any other: a virtual machine's are parked when they sleep,
    and a lone request then takes twice its time to begin with.
    """
    idle = f"os.sched_setscheduler(0, {os.SCHED_IDLE}, os.sched_param(0))"
    spinning = f"import os; {idle}\nwhile os.getppid() == {os.getpid()}: pass"
    cores = os.cpu_count() or 1 if wanted else 0
    processes = [subprocess.Popen([sys.executable, "-c", spinning]) for _ in range(cores)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def complete(data: bytes) -> bool:
    """Whether a response has arrived with all of its content-length."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    place = data.find(b"\r\ncontent-length: ") + 18
    return len(data) >= end + 4 + int(data[place : data.index(b"\r", place)])
