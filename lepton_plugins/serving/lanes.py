"""Where a call runs: on the event loop where it is short, else in a thread; decided by measurement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter, thread_time
from typing import TypeVar

from lepton_plugins.errors import Overloaded
from lepton_plugins.routing.micro_batch import was_merged

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")

#: A kind whose calls take longer than this leaves the event loop; one below half of it may come back.
#: Handing a call over costs about 0.1 ms.
_SHORT = 0.002
#: What each further request that is answered by the same call may add to that: about twice what a small model's costs.
_FURTHER = 0.0001
#: So many long calls in a row mean that the kind is long. Fewer may be those that the machine interrupted.
_STREAK = 4
#: So many calls a kind that was sent away stays in threads, twice as many each further time: one that waits
#: (for a time limit, another host, a disk) takes no processor time and would come back at once.
_STAY, _LONGEST_STAY = 32, 1 << 16


class Expectation:
    """How long calls of one kind take, and whether they may hold the event loop.

    On the loop wall time counts. In a thread processor time does: there the wall time of a short call is
    mostly its wait for the interpreter's lock, and would keep it there for ever.
    """

    __slots__ = ("calls", "long", "mean", "short", "stay")

    def __init__(self) -> None:
        self.mean = 0.0
        self.calls = 0
        self.long = 0
        self.short = False
        self.stay = 0

    def learn_here(self, wall: float, requests: int) -> None:
        if wall < _SHORT + (requests - 1) * _FURTHER:
            self.long = 0
            return
        self.long += 1
        if self.long >= _STREAK:
            self.short, self.calls, self.long = False, 0, 0
            self.stay = min(max(2 * self.stay, _STAY), _LONGEST_STAY)

    def learn_aside(self, busy: float, requests: int) -> None:
        self.calls += 1
        alone = max(0.0, busy - (requests - 1) * _FURTHER)
        # The first calls count alike: the very first may have imported or allocated something.
        self.mean += (alone - self.mean) * max(0.05, 1 / self.calls)
        self.short = self.mean < _SHORT / 2 and self.calls >= self.stay


class Lanes:
    """Runs calls of known kinds, each for one request or several. A kind is new in a thread; at most `queued` requests
    wait for one, the next raises Overloaded.
    """

    def __init__(self, threads: int, queued: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="lepton-call")
        self._capacity = threads + queued
        self._waiting = 0
        self._expected: dict[object, Expectation] = {}

    def is_short(self, kind: object) -> bool:
        """Whether a call of this kind may hold the event loop."""
        expected = self._expected.get(kind)
        return expected is not None and expected.short

    def here(self, kind: object, function: Callable[[A, B], T], first: A, second: B) -> T:
        """Run a short call at once."""
        start = perf_counter()
        try:
            return function(first, second)
        finally:
            self.took_here(kind, perf_counter() - start)

    def took_here(self, kind: object, seconds: float, requests: int = 1) -> None:
        """A call for so many requests, some of this kind, ran on the event loop."""
        expected = self._expected.get(kind)
        if expected is not None:
            expected.learn_here(seconds, requests)

    async def aside(
        self, kinds: Collection[object], function: Callable[[A, B], T], first: A, second: B, requests: int = 1
    ) -> T:
        """Run a call for so many requests, of these kinds, in a thread. Overloaded where too many wait."""
        self.admit(requests)
        try:
            return await self.run(kinds, function, first, second, requests)
        finally:
            self.leave(requests)

    def admit(self, requests: int) -> None:
        """Count requests that wait for a thread, or run in one, until they `leave`. Overloaded where too many do."""
        if self._waiting + requests > self._capacity:
            raise Overloaded(self._capacity)
        self._waiting += requests

    def leave(self, requests: int) -> None:
        self._waiting -= requests

    async def run(
        self, kinds: Collection[object], function: Callable[[A, B], T], first: A, second: B, requests: int
    ) -> T:
        """`aside` for requests that are admitted."""
        took: list[float] = []
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _timed, function, first, second, took)
        finally:
            if took:
                for kind in kinds:
                    self._expected.setdefault(kind, Expectation()).learn_aside(took[0], requests)

    def forget(self) -> None:
        """Other models answer from now on."""
        self._expected.clear()

    def close(self) -> None:
        self._threads.shutdown(wait=True)


def _timed(function: Callable[[A, B], T], first: A, second: B, took: list[float]) -> T:
    start = thread_time()
    try:
        return function(first, second)
    finally:
        if not was_merged():
            took.append(thread_time() - start)
