"""Busy polling: after an answer the event loop looks for the next request for a moment before it goes to sleep.

A processor that sleeps wakes late, on a virtual machine by more than a small model takes to answer. Linux does
the same for its guests (Documentation/virt/guest-halt-polling.rst), as does Seastar's reactor
(`--idle-poll-time-us`), both for 200 µs.
"""

from __future__ import annotations

from asyncio import get_running_loop
from time import perf_counter

from lepton_plugins.routing.cores import available_cores

try:
    from os import sched_yield
except ImportError:  # Not on Windows.

    def sched_yield() -> None: ...


#: As long as Linux and Seastar.
_SECONDS = 0.0002


def worth_polling(workers: int) -> float:
    """For how long one of so many workers should poll, in seconds: not at all where it would take another's core."""
    return _SECONDS if available_cores() > workers else 0.0


class BusyPoll:
    """Looks on for `seconds` after an answer, while requests come as soon as that after the one before; else the
    processor is left alone. Used on the event loop only; times by `time.perf_counter`.
    """

    __slots__ = ("_answered", "_polls", "_seconds", "_worth")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._answered = float("-inf")
        self._worth = False
        self._polls = False

    def came(self, now: float) -> None:
        """A request has come."""
        self._worth = now - self._answered < self._seconds

    def answered(self, now: float) -> None:
        """What has come is answered."""
        self._answered = now
        if self._worth and not self._polls:
            self._polls = True
            get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """With something to call soon, the loop doesn't sleep."""
        if self._worth and perf_counter() - self._answered < self._seconds:
            sched_yield()  # Whoever else has to run on this core goes first.
            get_running_loop().call_soon(self._look)
        else:
            self._polls = False
