"""Whether a server still is the one that the version was registered with."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from time import monotonic

from lepton_remote.endpoint import Endpoint, Metadata

#: Seconds until a server that is called is asked again: it may have been replaced while nobody looked.
_AGE = 10.0


class Identity:
    """What a server says of its model, asked with the first call and every ten seconds while calls come."""

    def __init__(self, endpoint: Endpoint, metadata: Callable[[], Metadata]) -> None:
        self._endpoint = endpoint
        self._metadata = metadata
        self._lock = Lock()
        self._known_until: float | None = None
        self._asked = 0
        self._failure: Exception | None = None

    def check(self) -> None:
        """DigestMismatch where it isn't what it was; PeerUnavailable, PeerTimedOut where it can't be asked."""
        known, asked = self._known_until, self._asked
        if known is not None and monotonic() < known:
            return
        # One call asks; the others needn't wait for what was so a moment ago.
        if not self._lock.acquire(blocking=known is None):
            return
        try:
            if self._asked == asked:
                self._ask()
            elif self._failure is not None:  # They waited as long as the one that asked: a time-out isn't theirs anew.
                raise self._failure.with_traceback(None)
        finally:
            self._lock.release()

    def _ask(self) -> None:
        try:
            self._endpoint.check(self._metadata())
            self._known_until, self._failure = monotonic() + _AGE, None
        except Exception as error:
            self._known_until, self._failure = None, error
            raise
        finally:
            self._asked += 1
