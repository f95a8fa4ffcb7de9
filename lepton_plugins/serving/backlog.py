"""How long what the event loop reads now may have waited unread, while the loop was at work."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable
from time import perf_counter

#: So long the loop may take from the end of a turn to the next reading without having slept in between: in seconds,
#: and as a part of the turn. In as short a time after a long turn it would hardly have slept.
_GAP, _PART = 0.0005, 0.1


class Backlog:
    """Bounds the age of requests from above: a socket says that there is something to read, not since when.

    While a turn of the event loop is at work nothing is read. If the loop reads again at once, what it finds came
    after the last reading; if it has slept, what woke it has only just come. Used on the event loop only.
    """

    __slots__ = ("_began", "_clock", "_ended", "_open", "_since", "_turn")

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._began = self._ended = self._since = float("-inf")
        self._open = False
        self._turn = 0.0

    def since(self, *, aside: bool = False) -> float:
        """When the oldest request of this turn may have come, by `time.perf_counter`.

        `aside`, it is answered in a thread: what the answer will wait for the loop counts as if it had waited so long
        already. That is about a turn, as long as the last one was.
        """
        if not self._open:
            self._open = True
            now = self._clock()
            gap = now - self._ended
            self._since = self._began if gap < _GAP or gap < _PART * (self._ended - self._began) else now
            self._began = now
            # It runs behind all that is ready now, and what was scheduled before.
            get_running_loop().call_soon(self._end)
        return self._since - self._turn if aside else self._since

    def _end(self) -> None:
        self._open = False
        self._ended = self._clock()
        self._turn = self._ended - self._began
