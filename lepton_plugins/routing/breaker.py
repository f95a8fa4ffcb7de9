"""The circuit breaker of an arm: who fails again and again is left out for a while, then tried with one call."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic

from lepton_plugins.errors import LeptonError

#: After each trial that fails the wait is twice as long, up to so many times the first.
_LONGEST = 16


class CircuitBreaker:
    """Closed, open or half-open (Nygard, Release It!, 2007). Any number of threads may ask.

    It opens after `failures` failed calls in a row. After `wait` seconds one call is let through: success closes it,
    failure doubles the wait.
    """

    __slots__ = ("_clock", "_failures", "_lock", "_run", "_wait", "_waits", "until")

    def __init__(self, failures: int, wait: float, clock: Callable[[], float] = monotonic) -> None:
        self._failures = failures
        self._wait = wait
        self._clock = clock
        self._run = 0
        self._waits = 1
        #: When the next call may be tried; None while it is closed.
        self.until: float | None = None
        self._lock = Lock()

    def admits(self) -> bool:
        """Whether a call may be made now; in the half-open state one caller at a time hears yes."""
        if self.until is None:
            return True
        with self._lock:
            now = self._clock()
            if self.until is None:
                return True
            if now < self.until:
                return False
            # This caller tries; if nothing is heard of it the next one may after another wait.
            self.until = now + self._wait * self._waits
            return True

    def succeeded(self) -> None:
        if self._run:
            with self._lock:
                self._run, self._waits, self.until = 0, 1, None

    def failed(self) -> None:
        with self._lock:
            self._run += 1
            if self._run < self._failures:
                return
            if self.until is not None:
                self._waits = min(2 * self._waits, _LONGEST)
            self.until = self._clock() + self._wait * self._waits


class ArmEjected(LeptonError):
    """A version that is left out for a while, because its last calls failed."""

    code = "ejected"
    http_status = 503

    def __init__(self, version: str) -> None:
        super().__init__(f"Version {version} failed too often; it is left out until a trial call succeeds.")
