"""Server processes of tests: waited for until they answer, ended by the id of their group."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def serving(command: Sequence[str], ready: str, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[float]:
    """A server that runs in `folder`; yields the seconds until `ready` (a URL) answered 200.

    RuntimeError with the end of what it said where it ends before, or takes more than two minutes.
    """
    started = time.monotonic()
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=stream, stderr=stream, start_new_session=True)
    try:
        with httpx.Client(timeout=2) as client:
            while not _answers(client, ready):
                if process.poll() is not None or time.monotonic() - started > 120:
                    raise RuntimeError(f"{command[:4]} didn't start:\n{log.read_text()[-4000:]}")
                time.sleep(0.1)
        yield time.monotonic() - started
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.HTTPError:
        return False
