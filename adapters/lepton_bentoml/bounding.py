"""The limits of a request for all that a service answers: BentoML reads what its own endpoints are sent to its end."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lepton_plugins.errors import BodyTooSlow, HeadersTooLarge, RequestInvalid
from lepton_plugins.serving.body import check_length, read_body
from lepton_plugins.serving.call import send_answer
from lepton_plugins.serving.failure import error_answer
from lepton_plugins.serving.settings import Limits

S = TypeVar("S", bound=Any)


class BoundedRequests:
    """Refuses a request beyond `body`, `header` or `body_time` of the limits, as the data plane does: 413, 431, 408.

    What comes behind it finds the body in one message.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._body(scope, receive)
        except RequestInvalid as error:
            await send_answer(send, error_answer(error))
            return
        await self._app(scope, receive if body is None else _read(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """None of a request that has none."""
        limits = self._limits
        size, length, whole = len(scope.get("raw_path") or b"") + len(scope["query_string"]), None, True
        for name, value in scope["headers"]:
            size += len(name) + len(value) + 4
            if name == b"content-length":
                length = value
            elif name == b"transfer-encoding":
                whole = False
        if size > limits.header:
            raise HeadersTooLarge(limits.header)
        if length is None and whole:
            return None
        check_length(length, limits.body)
        try:
            async with asyncio.timeout(limits.body_time):
                return await read_body(receive, limits.body)
        except TimeoutError:
            raise BodyTooSlow(limits.body_time) from None


def _read(body: bytes, receive: Receive) -> Receive:
    """Gives the body, then whatever comes from the server: that the client goes."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def read() -> Message:
        nonlocal message
        if message is None:
            return await receive()
        given, message = message, None
        return given

    return read


def bounded(service: S) -> S:
    """Let a service of BentoML's whose class is a RouterService keep the data plane's limits on every path."""
    service.add_asgi_middleware(BoundedRequests, limits=service.inner.app.settings.limits)
    return service
