"""uvicorn's HTTP protocol with bounds that it doesn't have: size of the headers, time until they are complete."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lepton_plugins.serving.call import JSON_HEADERS, encode_json


class BoundedProtocol(HttpToolsProtocol):
    """Headers beyond `header_limit` bytes get 431; a connection that dawdles over them is closed.

    What fits in one read costs two attribute assignments a request.
    """

    header_limit = 32 << 10
    header_time = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_headers = False
        self._read = 0
        self._deadline: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._read = self._read + len(data) if self._in_headers else len(data)
        if self._in_headers and self._read > self.header_limit + (1 << 18):
            self.transport.close()  # Not even complete after a whole read more than allowed.
            return
        super().data_received(data)
        if self._in_headers and self._deadline is None:
            self._deadline = self.loop.call_later(self.header_time, self._give_up)

    def on_message_begin(self) -> None:
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._read <= self.header_limit or self._header_size() <= self.header_limit:
            super().on_headers_complete()
            return
        app, self.app = self.app, _headers_too_large
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().connection_lost(exc)

    def _header_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


async def _headers_too_large(scope: Scope, receive: Receive, send: Send) -> None:
    body = encode_json({"error": "The request's headers are too large.", "code": "headers_too_large"})
    headers = [*JSON_HEADERS, (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body", "body": body})
