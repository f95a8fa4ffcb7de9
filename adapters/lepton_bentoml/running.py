"""Bentos that run on this machine: one server process each, known by a file so that any later command finds it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import urlopen
from uuid import uuid4

from lepton_plugins.errors import AddressTaken, DeploymentFailed, DeploymentNotFound, NotReadyInTime
from lepton_plugins.records.record import Record

if TYPE_CHECKING:
    import psutil

#: What requests in flight may take after SIGTERM.
_DRAIN = 15.0

_MARK = "LEPTON_DEPLOYMENT_MARK"


class RunningBento(Record):
    """What is kept of a deployment. `started` is the process's own start: a number given again isn't it."""

    name: str
    tag: str
    plan: str
    model: str
    host: str
    port: int
    pid: int
    started: float
    #: Stands in the environment of the process and of all that it starts: workers lead sessions of their own.
    mark: str

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def runs(self) -> bool:
        """Whether the process that was started is still there."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            return bool(abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


class RunningBentos:
    """The deployments of this user: `folder` has a file and a log for each."""

    def __init__(self, folder: Path | None = None) -> None:
        home = Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")
        self.folder = folder or home / "lepton-deployments"

    def list(self) -> list[RunningBento]:
        """All that were started and not deleted, by name."""
        if not self.folder.is_dir():
            return []
        return [_read(file) for file in sorted(self.folder.glob("*.json"))]

    def find(self, name: str) -> RunningBento | None:
        file = self._file(name)
        return _read(file) if file.is_file() else None

    def get(self, name: str) -> RunningBento:
        """DeploymentNotFound."""
        found = self.find(name)
        if found is None:
            raise DeploymentNotFound(name, f"{self.folder}", [item.name for item in self.list()])
        return found

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def start(
        self, name: str, tag: str, *, plan: str, model: str, host: str, port: int, seconds: float
    ) -> RunningBento:
        """Serve a bento in a process of its own and wait until it is ready.

        DeploymentFailed with the end of its log where it ends before; NotReadyInTime, and it is ended;
        AddressTaken.
        """
        import psutil

        self.folder.mkdir(parents=True, exist_ok=True)
        check_free(host, port)
        command = [sys.executable, "-m", "bentoml", "serve", tag, "--host", host, "--port", str(port)]
        mark = uuid4().hex
        with self.log(name).open("wb") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                env={**os.environ, _MARK: mark},
            )
        made = RunningBento(
            name=name,
            tag=tag,
            plan=plan,
            model=model,
            host=host,
            port=port,
            pid=process.pid,
            started=psutil.Process(process.pid).create_time(),
            mark=mark,
        )
        written = self._file(name).with_suffix(".new")
        written.write_text(made.model_dump_json(), encoding="utf-8")
        written.replace(self._file(name))
        end = time.monotonic() + seconds
        while not _is_ready(made.url):
            if process.poll() is not None:
                self._forget(name)
                ended = f"`bentoml serve {tag}` ended with code {process.returncode}"
                raise DeploymentFailed(name, f"{ended}: {self._tail(name)}")
            if time.monotonic() > end:
                self.delete(name)
                raise NotReadyInTime(name, seconds, self._tail(name), f"its log is {self.log(name)}")
            time.sleep(0.1)
        return made

    def delete(self, name: str) -> bool:
        """End its process, by its id, and forget it; False where there is none of this name."""
        found = self.find(name)
        if found is None:
            return False
        _end(found)
        self._forget(name)
        return True

    # --- inside ----------------------------------------------------------------------------

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _forget(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def _tail(self, name: str) -> str:
        text = self.log(name).read_text(encoding="utf-8", errors="replace")
        said = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
        return " / ".join(said[-3:])[:600]


@contextmanager
def told_to_end() -> Iterator[None]:
    """A block that SIGTERM ends as Ctrl-C does, so that what it started is ended too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _read(file: Path) -> RunningBento:
    return RunningBento.model_validate(json.loads(file.read_text(encoding="utf-8")))


def check_free(host: str, port: int) -> None:
    """AddressTaken if somebody listens there."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise AddressTaken(host, port, error.strerror or str(error)) from None


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (HTTPError, URLError, OSError):
        return False


def _end(bento: RunningBento) -> None:
    """End its process and those that it started, also where it was killed and they live on."""
    import psutil

    processes = [process for process in psutil.process_iter() if _is_of(bento, process)]
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=_DRAIN)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def _is_of(bento: RunningBento, process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.environ().get(_MARK) == bento.mark)
    except (psutil.Error, OSError):
        return False
