"""Calls of arms that are given up after a time: in a bounded number of threads, which nobody waits for."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, TimedOut
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.routing.loaded_arm import RunningArm

#: Calls that may run at once; those given up count until they end.
THREADS = 32

_Task = tuple["Future[NDArray[Any]]", RunningArm, Columns, int]


class TimeLimit:
    """Runs arms for at most `seconds`. Its threads are daemons: a model that hangs must not keep a process alive."""

    def __init__(self, seconds: float, threads: int = THREADS) -> None:
        self._seconds = seconds
        self._threads = threads
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = Lock()
        self._running = 0
        self._started = 0

    def call(self, arm: RunningArm, columns: Columns, rows: int) -> NDArray[Any]:
        """The arm's answer. TimedOut after the time; ArmOverloaded at once where every thread is taken."""
        with self._lock:
            if self._running >= self._threads:
                raise ArmOverloaded(arm.version, self._threads)
            self._running += 1
            if self._started < self._running:
                self._started += 1
                Thread(target=self._work, name="lepton-arm", daemon=True).start()
        future: Future[NDArray[Any]] = Future()
        self._tasks.put((future, arm, columns, rows))
        try:
            return future.result(self._seconds)
        except FutureTimeout:
            if future.done():  # The model's own TimeoutError.
                raise
            raise TimedOut(arm.version, "answer", self._seconds) from None

    def close(self) -> None:
        """Let the threads end once they are free."""
        for _ in range(self._started):
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, arm, columns, rows = task
            try:
                result = arm.predict(columns, rows)
            except BaseException as error:
                self._ended()
                future.set_exception(error)
            else:
                self._ended()
                future.set_result(result)

    def _ended(self) -> None:
        with self._lock:
            self._running -= 1


class ArmOverloaded(LeptonError):
    """A version with too many calls that haven't ended."""

    code = "overloaded"
    http_status = 503

    def __init__(self, version: str, limit: int) -> None:
        super().__init__(f"Version {version}: {limit} calls under a time limit haven't ended.")
