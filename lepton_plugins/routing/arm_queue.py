"""What waits for one arm while calls of it run, and when the next call starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ArmQueue(Generic[T]):
    """Items of one or more rows that wait for one of `parallel` calls. Not safe for threads."""

    __slots__ = ("_parallel", "_running", "_waiting", "waiting")

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._waiting: deque[tuple[T, int]] = deque()
        #: Rows of the calls that run.
        self._running: list[int] = []
        self.waiting = 0
        """Rows that wait."""

    def add(self, item: T, rows: int = 1) -> None:
        self._waiting.append((item, rows))
        self.waiting += rows

    @property
    def starts(self) -> bool:
        """Whether a call starts now: at once where none runs. Beside others it waits for its share of all rows, one of
        `parallel` + 1, so that the next call is there when one of these ends: who comes while a large batch is answered
        would start a small one, and those behind him would wait for both.
        """
        running, waiting = self._running, self.waiting
        if not waiting or len(running) >= self._parallel:
            return False
        return not running or waiting * (self._parallel + 1) >= waiting + sum(running)

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    @property
    def first(self) -> T:
        """Who has waited longest."""
        return self._waiting[0][0]

    def next(self, room: float, kind: Callable[[T], object] | None = None) -> list[T]:
        """The items of the call that starts, in their order: as many as have `room` rows, at least one. All are of one
        `kind`.
        """
        first, rows = self._waiting.popleft()
        items = [first]
        while self._waiting and rows + self._waiting[0][1] <= room:
            if kind is not None and kind(self._waiting[0][0]) != kind(first):
                break
            item, more = self._waiting.popleft()
            items.append(item)
            rows += more
        self.waiting -= rows
        self._running.append(rows)
        return items

    def ended(self, rows: int) -> None:
        """A call of so many rows is over."""
        self._running.remove(rows)
