"""How long what the event loop reads now may have waited unread, while the loop was at work."""

from __future__ import annotations

from asyncio import get_running_loop
from time import perf_counter

#: So long the loop may take from the end of a turn to the next reading without having slept in between, in seconds.
_GAP = 0.0005


class Backlog:
    """Bounds the age of requests from above: a socket says that there is something to read, not since when.

    While a turn of the event loop is at work nothing is read. If the loop reads again at once, what it finds came
    after the last reading; if it has slept, what woke it has only just come. Used on the event loop only.
    """

    __slots__ = ("_began", "_ended", "_open", "_since")

    def __init__(self) -> None:
        self._began = self._ended = self._since = float("-inf")
        self._open = False

    def since(self) -> float:
        """When the oldest request of this turn may have come, by `time.perf_counter`."""
        if not self._open:
            self._open = True
            now = perf_counter()
            self._since = self._began if now - self._ended < _GAP else now
            self._began = now
            # It runs behind all that is ready now, and what was scheduled before.
            get_running_loop().call_soon(self._end)
        return self._since

    def _end(self) -> None:
        self._open = False
        self._ended = perf_counter()
