"""A server in a session of its own, on a free port: ready to answer, and ended with all of its processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

READY_SECONDS = 120.0
#: Another process may take the port between its choice and the server's start.
PORTS = 3


class Running(NamedTuple):
    """A server that answers: how to ask it, the processes' root, how long it took to start."""

    url: str
    path: str
    body: bytes
    process: int
    seconds: float


@contextmanager
def started(
    command: Callable[[int], Sequence[str]], home: Path, path: str, body: bytes, **env: str
) -> Iterator[Running]:
    """The server that `command(port)` starts in `home`, once it answers `body` at `path`."""
    for left in reversed(range(PORTS)):
        port = _free_port()
        url, log, begun = f"http://127.0.0.1:{port}", home / f"server-{port}.log", time.perf_counter()
        with _process(command(port), home, log, env) as process:
            said = _until_ready(url + path, body, process)
            if said is None:
                yield Running(url, path, body, process.pid, time.perf_counter() - begun)
                return
        if not left or not _taken(port):
            raise RuntimeError(f"{url} isn't ready ({said[:500]}): {log.read_text()[-2000:]}")


@contextmanager
def _process(command: Sequence[str], home: Path, log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    # MLflow starts uvicorn by its name.
    more = {"PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))}
    more |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "BENTOML_DO_NOT_TRACK": "True"}
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=home, stdout=said, stderr=said, env={**os.environ, **more, **env}, start_new_session=True
        )
    try:
        yield process
    finally:
        # Its workers end with it.
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def _until_ready(url: str, body: bytes, process: subprocess.Popen[bytes]) -> str | None:
    """Ask until it answers; what it said last where it doesn't in time, or ends."""
    said, until = "nothing", time.perf_counter() + READY_SECONDS
    with httpx.Client(timeout=10) as client:
        while process.poll() is None and time.perf_counter() < until:
            try:
                answer = client.post(url, content=body, headers={"content-type": "application/json"})
                if answer.is_success:
                    return None
                said = answer.text
            except httpx.TransportError:
                pass
            time.sleep(0.02)
    return said


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
