"""Several processes on one address: started together, started again when they end, drained together."""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir, mkdtemp

import msgspec

from lepton_plugins.errors import WorkerFailed
from lepton_plugins.serving.pointer import Hold, is_held
from lepton_plugins.serving.settings import ServingSettings
from lepton_plugins.serving.signals import end_signals
from lepton_plugins.serving.worker import Order, Word

logger = logging.getLogger("lepton_plugins.serving")

#: A worker that ends within so many seconds of its start waits before the next, longer each time.
_SOON, _LONGEST = 10.0, 60.0
#: Seconds beyond the requests' own time until a worker that doesn't end is killed.
_GRACE = 15.0

#: Memory, where there is a file system in it: counting then never touches a disk.
_MEMORY = Path("/dev/shm")
_PREFIX = "lepton-workers-"
#: Seconds after which a folder that nobody holds was left behind: a younger one may only just be made.
_YOUNG = 60.0


class _Worker:
    """One place among the workers, and the process that has it at the moment."""

    def __init__(self, number: int, order: Order) -> None:
        self.number = number
        self._order = order
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False
        self.start_at = 0.0
        self._pause = 0.0
        self._started = 0.0

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lepton_plugins.serving.worker"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(self._order.listener,)
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(self._order) + b"\n")
        process.stdin.flush()
        self.process = process
        self._started = time.monotonic()
        return process

    def ended(self) -> int:
        """What its process ended with; from when on the next may start is in `start_at`."""
        assert self.process is not None
        code = self.process.wait()
        self.close()
        lived = time.monotonic() - self._started
        self._pause = 0.0 if self.ready and lived > _SOON else min(max(1.0, 2 * self._pause), _LONGEST)
        self.start_at = time.monotonic() + self._pause
        self.ready = False
        return code

    def close(self) -> None:
        process, self.process = self.process, None
        for stream in (process.stdin, process.stdout) if process is not None else ():
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass


class Workers:
    """Runs `settings.workers` processes that serve `source` on `listener`, until SIGTERM or SIGINT.

    They share the listening socket, so that connections go to whoever is free and a worker that dies
    takes only those with it that it has. `drain` is the time that requests in flight have to end.
    """

    def __init__(self, source: Path, settings: ServingSettings, listener: socket.socket, drain: float) -> None:
        self._drain = drain
        self._stop = False
        self._hurry = False
        self._selector = selectors.DefaultSelector()
        self._counts = _shared_folder()
        self._hold = Hold(self._counts)
        token = settings.token.get_secret_value() if settings.token is not None else None
        self._workers = [
            _Worker(
                number,
                Order(
                    str(source),
                    settings.model_dump_json(exclude={"token"}),
                    token,
                    listener.fileno(),
                    str(self._counts),
                    number,
                ),
            )
            for number in range(settings.workers)
        ]

    def run(self, ready: Callable[[str], None]) -> None:
        """`ready` gets a line when all answer. WorkerFailed where one can't begin to."""
        with end_signals(self._asked_to_end):
            try:
                for worker in self._workers:
                    self._start(worker)
                line = self._wait_until_ready()
                if line is not None:
                    ready(f"{line} · {len(self._workers)} workers")
                while not self._stop:
                    self._look(0.2)
            finally:
                self._end_all()
                self._selector.close()
                shutil.rmtree(self._counts, ignore_errors=True)
                self._hold.release()

    def _start(self, worker: _Worker) -> None:
        process = worker.start()
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)

    def _wait_until_ready(self) -> str | None:
        line: str | None = None
        while not self._stop and not all(worker.ready for worker in self._workers):
            for word, worker in self._words(0.2):
                if word is None or word.ready is None:
                    reason = word.error if word is not None and word.error is not None else "its log says why"
                    code = word.code if word is not None else None
                    raise WorkerFailed(worker.number, reason, code)
                worker.ready = True
                line = line or word.ready
        return None if self._stop else line

    def _look(self, seconds: float) -> None:
        """Note what workers say; start again those that have ended."""
        for word, worker in self._words(seconds):
            if word is None:
                code = worker.ended()
                if not self._stop:
                    logger.error("worker %d ended (%s); another takes its place", worker.number, code)
            elif word.ready is not None:
                worker.ready = True
            else:
                logger.error("worker %d can't serve: %s", worker.number, word.error)
        for worker in self._workers:
            if worker.process is None and not self._stop and time.monotonic() >= worker.start_at:
                self._start(worker)

    def _words(self, seconds: float) -> Iterator[tuple[Word | None, _Worker]]:
        """What workers say; None from one that has ended."""
        for key, _ in self._selector.select(seconds):
            worker: _Worker = key.data
            assert worker.process is not None
            assert worker.process.stdout is not None
            line = worker.process.stdout.readline()
            if not line:
                self._selector.unregister(key.fileobj)
                yield None, worker
                continue
            try:
                yield msgspec.json.decode(line, type=Word), worker
            except msgspec.DecodeError:
                logger.warning("worker %d: %s", worker.number, line.decode(errors="replace").rstrip())

    def _end_all(self) -> None:
        self._stop = True
        processes = [worker.process for worker in self._workers if worker.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + self._drain + _GRACE
        for process in processes:
            while process.poll() is None and time.monotonic() < deadline and not self._hurry:
                time.sleep(0.02)
            if process.poll() is None:
                process.kill()
                process.wait()
        for worker in self._workers:
            worker.close()

    def _asked_to_end(self, number: int, frame: object) -> None:
        self._hurry = self._stop and number == signal.SIGINT
        self._stop = True


def _shared_folder() -> Path:
    """A new folder for the workers' counts; those of servers that were killed go."""
    parent = Path(_MEMORY if os.access(_MEMORY, os.W_OK) else gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # Another user's, or gone meanwhile.
            if time.time() - left.stat().st_mtime > _YOUNG and not is_held(left):
                shutil.rmtree(left)
    return Path(mkdtemp(prefix=_PREFIX, dir=parent))
