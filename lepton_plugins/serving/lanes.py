"""Where a call runs: on the event loop where it is short, else in a thread; decided by measurement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

from lepton_plugins.errors import Overloaded

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")

#: A call expected to hold the event loop longer than this goes to a thread; handing over costs about 0.1 ms.
_SHORT = 0.003


class Lanes:
    """Runs calls of known kinds; each kind's duration is estimated from its own past.

    A kind is new in a thread. The estimate follows slow calls quickly and fast ones slowly, so that a
    kind that is slow now and then stays off the loop. At most `queued` calls wait for a thread: the next
    raises Overloaded.
    """

    def __init__(self, workers: int, queued: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="lepton-call")
        self._capacity = workers + queued
        self._busy = 0
        self._expected: dict[object, float] = {}

    def is_short(self, kind: object) -> bool:
        """Whether a call of this kind may hold the event loop."""
        return self._expected.get(kind, _SHORT) < _SHORT

    def here(self, kind: object, function: Callable[[A, B], T], first: A, second: B) -> T:
        """Run a short call at once."""
        start = perf_counter()
        try:
            return function(first, second)
        finally:
            self._learn(kind, perf_counter() - start)

    async def aside(self, kind: object, function: Callable[[A, B], T], first: A, second: B) -> T:
        """Run a call in a thread."""
        if self._busy >= self._capacity:
            raise Overloaded(self._capacity)
        self._busy += 1
        took = [0.0]
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _timed, function, first, second, took)
        finally:
            self._busy -= 1
            self._learn(kind, took[0])

    def _learn(self, kind: object, seconds: float) -> None:
        expected = self._expected.get(kind, seconds)
        self._expected[kind] = expected + (seconds - expected) * (0.3 if seconds > expected else 0.02)

    def close(self) -> None:
        self._threads.shutdown(wait=True)


def _timed(function: Callable[[A, B], T], first: A, second: B, took: list[float]) -> T:
    start = perf_counter()
    try:
        return function(first, second)
    finally:
        took[0] = perf_counter() - start
