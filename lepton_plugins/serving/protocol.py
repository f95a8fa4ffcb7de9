"""uvicorn's HTTP protocol with bounds that it doesn't have, answers in one write, and a direct way for predictions.

Bounds: the headers' size, and the time until a request is complete. The direct way: a request for a
prediction that has arrived whole is answered without a task and ASGI's messages, which cost more than a small
model does, and together with others.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from lepton_plugins.errors import BodyTooSlow, HeadersTooLarge, RequestInvalid
from lepton_plugins.serving.call import Answer
from lepton_plugins.serving.failure import CLOSE, error_answer

if TYPE_CHECKING:
    from lepton_plugins.serving.app import ServingApp
    from lepton_plugins.serving.turn import DirectRequest


#: Bytes that may come before an answer is there; then nothing more is read until it is.
_AHEAD = 64 << 10

#: Seconds that a connection in use stays open when the server ends: its client's next request may be on the way, and
#: is told by its answer that it is the last one.
_LAST = 1.0


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
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(_response(200, self.default_headers, start["headers"], end, message["body"]))
        self.waiting_for_100_continue = False
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _response(
    status: int,
    default: Sequence[tuple[bytes, bytes]],
    headers: Sequence[tuple[bytes, bytes]],
    end: bytes,
    body: bytes,
) -> bytes:
    lines = [STATUS_LINE[status]]
    for name, value in default:
        lines += (name, b": ", value, b"\r\n")
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    lines += (end, body)
    return b"".join(lines)


class KnownHead(NamedTuple):
    """A request's head but for the number that is its content-length: a client's next one is mostly the same."""

    before: bytes
    after: bytes
    request: DirectRequest


class BoundedProtocol(HttpToolsProtocol):
    """Headers beyond `header_limit` bytes get 431; a request that isn't complete `time_limit` seconds after
    its first part gets 408. A request that fits in one read costs a few attribute assignments.
    """

    header_limit = 32 << 10
    time_limit = 30.0
    serving: ServingApp | None = None
    """Who answers predictions directly."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_headers = False
        self._incomplete = False
        self._head: list[tuple[bytes, bytes]] = []
        """The headers of the request that is being read."""
        self._read = 0
        """Bytes since a request's first, or since the last of its body."""
        self._upgrade = False
        """Whether the request that is being read asks for another protocol."""
        self._body_at = 0
        self._held: bytes | None = None
        """The body, so far, of a request that may be taken."""
        self._taken = False
        """Whether a request is answered at the end of the event loop's turn, or aside."""
        self._ahead: bytearray | None = None
        """What came before the answer to a request that is answered aside."""
        self._ending = False
        """Whether the connection ends with its next answer."""
        self._whole = b""
        """What is being read, while it may be one whole request."""
        self._known: KnownHead | None = None
        self._used_at = 0.0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own.
        super().connection_made(transport)
        self._used_at = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._ahead is not None:
            self._ahead += data
            if len(self._ahead) > _AHEAD:
                self.flow.pause_reading()
            return
        if self._known is not None and self._take_known(self._known, data):
            return
        self._read = self._read + len(data) if self._incomplete else len(data)
        if self._incomplete and self._read > self.header_limit + (1 << 18):
            self.transport.close()  # A whole read more than allowed of headers or trailers, and still not complete.
            return
        self._whole = b"" if self._incomplete else data
        super().data_received(data)
        while self._upgrade:
            data = self._without_upgrade(data)
            super().data_received(data)
        self._whole = b""
        if self._held is not None:
            self._let_go()  # It hasn't arrived whole.
        if self._incomplete and self._deadline is None:
            self._deadline = self.loop.call_later(self.time_limit, self._give_up)

    def _take_known(self, known: KnownHead, data: bytes) -> bool:
        """Take a whole request whose head is that of the last one, without reading it again."""
        cycle = self.cycle
        if not data.startswith(known.before) or self._incomplete or self._taken or self.flow.write_paused:
            return False
        if (cycle is not None and not cycle.response_complete) or self.transport.is_closing():
            return False
        start = len(known.before)
        end = data.find(b"\r", start, start + 12)
        if not data[start:end].isdigit() or not data.startswith(known.after, end):
            return False
        head = end + len(known.after)
        if len(data) - head != int(data[start:end]):
            return False
        return self._take(known.request, data[head:], alone=True)

    def _take(self, request: DirectRequest, body: bytes, *, alone: bool) -> bool:
        assert self.serving is not None
        self._taken = True  # Before the answer, which may be delivered at once.
        if self.serving.turn.take(self, request, body, alone=alone):
            return True
        self._taken = False
        return False

    def _alone(self, body: bytes) -> bool:
        """Whether a request came in one piece, and nothing with it."""
        whole, end = self._whole, len(self._whole) - len(body)
        return end > 0 and whole.endswith(body) and whole.find(b"\r\n\r\n") == end - 4

    def _remember(self, request: DirectRequest, body: bytes) -> None:
        """Know the head again."""
        head = self._whole[: len(self._whole) - len(body)]
        place = head.lower().find(b"\r\ncontent-length: ") + 18
        if place < 18:
            return
        end = head.index(b"\r", place)
        if head[place:end].isdigit() and int(head[place:end]) == len(body):
            self._known = KnownHead(head[:place], head[end:], request)

    def on_message_begin(self) -> None:
        if self._taken:
            assert self.serving is not None
            self.serving.turn.end()  # Answers go in the order of their requests.
            self._whole = b""
        self._in_headers = self._incomplete = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._head, self.headers = self.headers, []  # Trailers aren't headers: a gateway may have checked those.
        cycle = self.cycle
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrade = True
        elif (
            self.serving is not None
            and self.serving.is_direct(self.url)
            and (cycle is None or cycle.response_complete)
            and self._read <= self.header_limit
            and not self.expect_100_continue
            and not self.flow.write_paused
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
        ):
            self._held = b""
        else:
            self._begin()

    def _begin(self) -> None:
        """uvicorn's own way: a task for the request."""
        if self._read <= self.header_limit or self._header_size() <= self.header_limit:
            super().on_headers_complete()
        else:
            app, self.app = self.app, self._headers_too_large
            try:
                super().on_headers_complete()
            finally:
                self.app = app
        # uvicorn names its class and not the protocol's; the request's task starts after this returns.
        self.cycle.__class__ = OneWriteCycle
        if self._ending:
            self.cycle.keep_alive = False

    def _let_go(self) -> None:
        body, self._held = self._held, None
        self._begin()
        if body:
            super().on_body(body)

    def on_body(self, body: bytes) -> None:
        self._read = 0
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body

    def on_message_complete(self) -> None:
        self._incomplete = False
        if self._deadline is not None:
            self._forget_deadline()
        body = self._held
        if body is not None:
            assert self.serving is not None
            request = self.serving.direct_request(self.url, self._head)
            alone = self._alone(body)
            if request is not None and self._take(request, body, alone=alone):
                self._held = None
                if alone:
                    self._remember(request, body)
                return
            self._let_go()
        if not self._upgrade:
            super().on_message_complete()

    def is_only(self) -> bool:
        """Whether no other connection is open."""
        return len(self.connections) == 1

    def hold(self) -> None:
        """Keep what comes until the answer to the request that was taken is delivered."""
        self._ahead = bytearray()

    def deliver(self, answer: Answer) -> None:
        """Send the answer to the request that was taken."""
        self._taken = False
        ahead, self._ahead = self._ahead, None
        if self.transport.is_closing():
            return
        refused = answer.status != 200 and CLOSE in answer.headers
        self._send(answer, closes=self._ending and not refused)
        if self._ending or refused:
            self.transport.close()
        self._used_at = self.loop.time()
        if self.timeout_keep_alive_task is None or self.flow.read_paused:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
        if ahead and not self.transport.is_closing():
            self.data_received(bytes(ahead))

    def _send(self, answer: Answer, *, closes: bool = False) -> None:
        """A whole answer, which may say that the connection closes."""
        end = b"content-length: %d\r\n%b\r\n" % (len(answer.body), b"connection: close\r\n" if closes else b"")
        default = self.server_state.default_headers
        self.transport.write(_response(answer.status, default, answer.headers, end, answer.body))

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that wasn't used; one timer for many requests, which only note the time."""
        left = self._used_at + self.timeout_keep_alive - self.loop.time()
        if self._taken or left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(max(left, 1.0), self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def on_response_complete(self) -> None:
        self._used_at = self.loop.time()
        super().on_response_complete()

    def shutdown(self) -> None:
        self._ending = True
        if self._taken:
            assert self.serving is not None
            self.serving.turn.end()  # The answer is delivered now, or it is on its way.
        elif self._unused() and self.loop.time() - self._used_at < _LAST:
            self.loop.call_later(_LAST, self._end_unused)
        else:
            super().shutdown()

    def _unused(self) -> bool:
        """Whether no request waits for its answer."""
        return not self._taken and (self.cycle is None or self.cycle.response_complete)

    def _end_unused(self) -> None:
        if self._unused():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _header_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self._head)

    def _give_up(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if not self._in_headers and self.cycle is not None and not self.cycle.response_started:
            self._send(error_answer(BodyTooSlow(self.time_limit)))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What isn't HTTP is told as any other error."""
        self._send(error_answer(RequestInvalid("Found what isn't a request", expected="HTTP/1.1")), closes=True)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Not worth a line in the log: the request is answered as one of HTTP."""
        error = sys.exception()
        assert error is not None
        self._body_at = error.args[0]

    def _without_upgrade(self, data: bytes) -> bytes:
        """A request that asks for another protocol, as Java's client does for HTTP/2, without that wish, and all that
        was read behind it: with it the parser takes no body.
        """
        self._upgrade = False
        lines = [self.parser.get_method(), b" ", self.url, b" HTTP/", self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self._head:
            if name != b"upgrade":
                lines += (name, b": ", value, b"\r\n")
        return b"".join([*lines, b"\r\n", data[self._body_at :]])

    async def _headers_too_large(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = error_answer(HeadersTooLarge(self.header_limit))
        headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
