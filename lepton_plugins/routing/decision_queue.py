"""A bounded queue of decisions and the thread that writes them: whoever decides never waits for a disk or a network."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sized
from threading import Condition, Event, Thread
from typing import Generic, TypeVar

#: A request's decisions: as many as its length.
Decisions = TypeVar("Decisions", bound=Sized)

#: How long decisions wait to be written together; one write for many costs the requests less.
_INTERVAL = 0.05


class DecisionQueue(Generic[Decisions]):
    """`write` gets blocks in their order, in one thread, and returns how many decisions it lost.

    At most `max_rows` decisions wait. `dropped` counts those that found the queue full or that `write` lost.
    """

    def __init__(self, write: Callable[[list[Decisions]], int], max_rows: int, name: str) -> None:
        self.dropped = 0
        self.pid = os.getpid()
        self._write = write
        self._max_rows = max_rows
        self._name = name
        self._queue: deque[Decisions] = deque()
        self._rows = 0
        self._changed = Condition()
        self._busy = False
        self._closed = False
        self._wake = Event()
        self._thread: Thread | None = None

    def append(self, block: Decisions) -> None:
        rows = len(block)
        with self._changed:
            # A block beyond the bound is taken where nothing else waits: it could never be written else.
            if self._closed or (self._queue and self._rows + rows > self._max_rows):
                self.dropped += rows
                return
            self._queue.append(block)
            self._rows += rows
            if self._thread is None:
                self._thread = Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def drain(self) -> None:
        """Until everything appended so far has been written."""
        with self._changed:
            if self._thread is None:
                return
            self._wake.set()
            while (self._queue or self._busy) and self._thread.is_alive():
                self._changed.wait(0.5)

    def close(self) -> None:
        """Write what waits and end the thread; later decisions are dropped."""
        with self._changed:
            self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            self._wake.wait(_INTERVAL)
            self._wake.clear()
            with self._changed:
                blocks = list(self._queue)
                self._queue.clear()
                self._busy = bool(blocks)
                done = self._closed and not blocks
            lost = self._write(blocks) if blocks else 0
            rows = sum(map(len, blocks))
            with self._changed:
                self._busy = False
                self.dropped += lost
                self._rows -= rows
                self._changed.notify_all()
            if done:
                return
