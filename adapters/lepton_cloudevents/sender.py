"""Sending events: one connection that is kept, a few tries, and no waiting for a receiver that is away."""

from __future__ import annotations

import http.client
import logging
import ssl
from threading import Event, Lock
from time import monotonic
from urllib.parse import urlsplit

from lepton_plugins.errors import InvalidInput

logger = logging.getLogger("lepton_cloudevents")

#: Seconds before the second and the third try.
_WAITS = (0.1, 0.5)
#: How long what waits may still be sent after the log is closed.
_LAST = 5.0


class Sender:
    """Posts to one URL. Thread-safe: one event after the other. `timeout` in seconds, for each try."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
            raise InvalidInput(
                f"Found {url!r}, expected where events are sent to, such as http://broker.logging/events."
            )
        try:
            port = parts.port
        except ValueError:
            raise InvalidInput(f"Found {url!r}, expected a port below 65536.") from None
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._host = parts.hostname
        self._port = port
        self._context = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None
        self._lock = Lock()
        self._down = False
        self._ending = Event()
        self._until = float("inf")

    def send(self, headers: dict[str, str], body: bytes) -> bool:
        """Whether the receiver took the event. While it is away each event gets one try."""
        with self._lock:
            waits = () if self._down or self._ending.is_set() else _WAITS
            for wait in (0.0, *waits):
                if wait:
                    self._ending.wait(wait)
                if monotonic() > self._until:
                    return False
                reason, again = self._post(headers, body)
                if reason is None:
                    self._down = False
                    return True
                if not again:
                    break
            if not self._down:
                logger.error("events aren't taken by %s and are dropped: %s", self._host, reason)
            self._down = True
            return False

    def end(self) -> None:
        """Send what waits for a few seconds longer, without further tries."""
        self._until = monotonic() + _LAST
        self._ending.set()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _post(self, headers: dict[str, str], body: bytes) -> tuple[str | None, bool]:
        """Why the event wasn't taken (None: it was), and whether another try may help."""
        kept = self._connection is not None
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request("POST", self._target, body, headers)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            # A kept connection may have been closed by the other side since: that is no failure yet.
            return self._post(headers, body) if kept else (f"{type(error).__name__}: {error}", True)
        if answer.status < 300:
            return None, False
        return f"HTTP {answer.status}", answer.status >= 500 or answer.status in (408, 429)

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
