"""A pool of HTTP connections to one server."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock, Thread
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from lepton_plugins.routing.streaming import Cancellation
from lepton_remote.peer import PeerTimedOut, PeerUnavailable

Headers = dict[str, str]

#: Seconds that a connection is used. Behind one address there may be several replicas, and new ones: whoever balances
#: by connection (a Kubernetes Service) sends nothing to those that came after it was opened.
_AGE = 30.0


class _TimelyFile(io.RawIOBase):
    """What a socket receives, all of it within the socket's time-out, which by itself is that of one read."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._until = monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimelyResponse(http.client.HTTPResponse):
    """A response of which head and body together come in time, however slowly the peer drips."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_TimelyFile(sock))


class Connections:
    """Keeps up to `most` idle connections; each is used by one call at a time.

    A call is sent again only where its peer cannot have begun it: the connection was refused, or it was an
    idle one that the peer had closed, which then sends no byte (RFC 9112, section 9.3.1).
    """

    def __init__(self, url: str, most: int, timeout: float) -> None:
        parts = urlsplit(url)
        self._url = url
        self._host, self._port = parts.hostname or "", parts.port
        self._context = ssl.create_default_context() if parts.scheme == "https" else None
        self._most = most
        self._timeout = timeout
        self._idle: deque[tuple[http.client.HTTPConnection, float]] = deque()
        self._lock = Lock()
        self._lookup: Future[list[str]] | None = None

    def ask(self, method: str, path: str, body: bytes | None, headers: Headers) -> tuple[int, Headers, bytes]:
        """Status, headers (names in lower case) and body. PeerUnavailable, PeerTimedOut.

        The time-out is that of all of the answer, and once more of sending and of connecting.
        """
        with self._lock:
            kept, opened = self._idle.pop() if self._idle else (None, 0.0)
        if kept is not None:
            try:
                return self._ask(kept, opened, method, path, body, headers)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                pass  # It was closed while nobody used it.
            except (OSError, http.client.HTTPException) as error:
                raise self._told(error) from None
        try:
            return self._ask(self._connect(), monotonic(), method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise self._told(error) from None

    @contextmanager
    def streaming(
        self, path: str, body: bytes, headers: Headers, cancelled: Cancellation
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a POST, to be read as it comes, on a connection of its own; its time-out is between two reads.

        PeerUnavailable, PeerTimedOut, while it is read, too.
        """
        connection = self._connect()
        connection.response_class = http.client.HTTPResponse  # Its end may be far away.
        try:
            connection.connect()
            cancelled.watch(partial(connection.sock.shutdown, socket.SHUT_RDWR))
            connection.request("POST", path, body, headers)
            with connection.getresponse() as response:
                yield response
        except (OSError, http.client.HTTPException) as error:
            raise self._told(error) from None
        finally:
            connection.close()

    def close(self) -> None:
        with self._lock:
            idle = list(self._idle)
            self._idle.clear()
            self._most = 0
        for connection, _ in idle:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
            if self._context is not None
            else http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        )
        connection.response_class = _TimelyResponse
        connection._create_connection = self._reach  # type: ignore[attr-defined]
        return connection

    def _reach(self, address: tuple[str, int], timeout: float, _: object = None) -> socket.socket:
        """`socket.create_connection`, all of it within the time-out: the look-up of a name has none of its own."""
        host, port = address
        until = monotonic() + timeout
        failed: OSError = TimeoutError("timed out")
        for found in self._look_up(host, timeout):
            if (left := until - monotonic()) <= 0:
                raise TimeoutError("timed out")
            try:
                reached = socket.create_connection((found, port), left)
            except OSError as error:
                failed = error
                continue
            reached.settimeout(timeout)
            return reached
        raise failed

    def _look_up(self, host: str, timeout: float) -> list[str]:
        """The name's addresses. Who comes while it is being looked up waits for the same answer: one thread at most."""
        with self._lock:
            lookup = self._lookup
            if lookup is None or lookup.done():
                lookup = self._lookup = Future()
                Thread(target=_resolve, args=(host, lookup), name="lepton-lookup", daemon=True).start()
        try:
            return lookup.result(timeout)
        except FutureTimeout:
            raise TimeoutError("timed out") from None

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        opened: float,
        method: str,
        path: str,
        body: bytes | None,
        headers: Headers,
    ) -> tuple[int, Headers, bytes]:
        try:
            if connection.sock is not None:
                connection.sock.settimeout(self._timeout)  # The last answer has used some of it.
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except BaseException:
            connection.close()
            raise
        young = monotonic() - opened < _AGE
        with self._lock:
            keep = young and not response.will_close and len(self._idle) < self._most
            if keep:
                self._idle.append((connection, opened))
        if not keep:
            with suppress(OSError):
                connection.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, content

    def _told(self, error: Exception) -> PeerTimedOut | PeerUnavailable:
        if isinstance(error, TimeoutError):
            return PeerTimedOut(self._url, self._timeout)
        return PeerUnavailable(self._url, str(error) or type(error).__name__)


def _resolve(host: str, found: Future[list[str]]) -> None:
    try:
        known = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        found.set_result([str(address[0]) for *_, address in known])
    except Exception as error:
        found.set_exception(error)
