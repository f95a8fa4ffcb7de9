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

    def check(self) -> None:
        """DigestMismatch where it isn't what it was; PeerUnavailable, PeerTimedOut where it can't be asked."""
        known = self._known_until
        if known is not None and monotonic() < known:
            return
        # One call asks; the others needn't wait for what was so a moment ago.
        if not self._lock.acquire(blocking=known is None):
            return
        try:
            if self._known_until != known:
                return  # Another call has asked meanwhile.
            try:
                self._endpoint.check(self._metadata())
            except Exception:
                self._known_until = None
                raise
            self._known_until = monotonic() + _AGE
        finally:
            self._lock.release()
