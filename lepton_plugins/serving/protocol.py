"""uvicorn's HTTP protocol with bounds that it doesn't have, and answers in one write.

Bounds: the headers' size, and the time until a request is complete.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from lepton_plugins.errors import BodyTooSlow
from lepton_plugins.serving.call import JSON_HEADERS, encode_json
from lepton_plugins.serving.failure import error_answer


class OneWriteCycle(RequestResponseCycle):
    """Sends a whole successful answer by one call of the system: head and body apart cost two.

    What isn't whole, isn't a 200 or can't be written at once goes uvicorn's way. Headers are the
    application's own and not checked again.
    """

    _start: Any = None

    async def send(self, message: Any) -> None:
        start = self._start
        if start is None:
            if message["type"] == "http.response.start" and message["status"] == 200 and not self.response_started:
                self._start = message
            else:
                await super().send(message)
            return
        self._start = None
        if message.get("more_body") or self.flow.write_paused or self.disconnected or self.scope["method"] == "HEAD":
            await super().send(start)
            await super().send(message)
            return
        lines = [STATUS_LINE[200]]
        for name, value in self.default_headers:
            lines += (name, b": ", value, b"\r\n")
        for name, value in start["headers"]:
            lines += (name, b": ", value, b"\r\n")
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        lines.append(message["body"])
        self.transport.write(b"".join(lines))
        self.waiting_for_100_continue = False
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class BoundedProtocol(HttpToolsProtocol):
    """Headers beyond `header_limit` bytes get 431; a request that isn't complete `time_limit` seconds after
    its first part gets 408. A request that fits in one read costs a few attribute assignments.
    """

    header_limit = 32 << 10
    time_limit = 30.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_headers = False
        self._incomplete = False
        self._read = 0
        self._deadline: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._read = self._read + len(data) if self._in_headers else len(data)
        if self._in_headers and self._read > self.header_limit + (1 << 18):
            self.transport.close()  # A whole read more than allowed, and still not complete.
            return
        super().data_received(data)
        if self._incomplete and self._deadline is None:
            self._deadline = self.loop.call_later(self.time_limit, self._give_up)

    def on_message_begin(self) -> None:
        self._in_headers = self._incomplete = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        if self._read <= self.header_limit or self._header_size() <= self.header_limit:
            super().on_headers_complete()
        else:
            app, self.app = self.app, _headers_too_large
            try:
                super().on_headers_complete()
            finally:
                self.app = app
        # uvicorn names its class and not the protocol's; the request's task starts after this returns.
        self.cycle.__class__ = OneWriteCycle

    def on_message_complete(self) -> None:
        self._incomplete = False
        if self._deadline is not None:
            self._forget_deadline()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _header_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _give_up(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if not self._in_headers and self.cycle is not None and not self.cycle.response_started:
            answer = error_answer(BodyTooSlow(self.time_limit))
            headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
            lines = [STATUS_LINE[answer.status], *(name + b": " + value + b"\r\n" for name, value in headers)]
            self.transport.write(b"".join([*lines, b"\r\n", answer.body]))
        self.transport.close()


async def _headers_too_large(scope: Scope, receive: Receive, send: Send) -> None:
    body = encode_json({"error": "The request's headers are too large.", "code": "headers_too_large"})
    headers = [*JSON_HEADERS, (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 431, "headers": headers})
    await send({"type": "http.response.body", "body": body})
