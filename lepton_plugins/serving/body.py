"""A request's body: what its headers may say of it, and its bytes, counted while they arrive."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Message, Receive

from lepton_plugins.errors import BodyTooLarge, MediaTypeUnsupported, RequestInvalid
from lepton_plugins.serving.route import Route


def check_head(route: Route, headers: Mapping[bytes, bytes], limit: int) -> None:
    """What the headers say of the body: its media type, its encoding, its length, of `limit` bytes at most."""
    media = headers.get(b"content-type")
    if media is not None and media not in route.media:
        plain = media.partition(b";")[0].strip().lower()
        if plain not in route.media:
            raise MediaTypeUnsupported(media.decode("latin-1")[:100], b" or ".join(route.media).decode())
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.strip().lower() != b"identity":
        raise MediaTypeUnsupported(encoding.decode("latin-1")[:100], "a body that isn't compressed")
    check_length(headers.get(b"content-length"), limit)


def check_length(length: bytes | None, limit: int) -> None:
    """What the header content-length says, if it is there; BodyTooLarge beyond `limit`."""
    if length is not None and (not length.isdigit() or len(length) > 18 or int(length) > limit):
        raise BodyTooLarge(limit)


async def read_body(receive: Receive, limit: int) -> bytes:
    """The bytes; BodyTooLarge as soon as they are more than `limit`."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    return await _rest(body, message, receive, limit)


async def _rest(body: bytes, message: Message, receive: Receive, limit: int) -> bytes:
    parts = bytearray(body)
    while len(parts) <= limit:
        if message["type"] == "http.disconnect":
            raise RequestInvalid("The client went away before its body had arrived")
        if not message.get("more_body", False):
            return bytes(parts)
        message = await receive()
        parts += message.get("body", b"")
    raise BodyTooLarge(limit)
