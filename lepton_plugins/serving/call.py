"""What a route is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from starlette.types import Send

from lepton_plugins.errors import Contradiction
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.serving.binary import HEADER

if TYPE_CHECKING:
    from lepton_plugins.serving.reply import Reply

#: Name and value as ASGI sends them, names in lower case.
Headers = list[tuple[bytes, bytes]]

NOSNIFF = (b"x-content-type-options", b"nosniff")
JSON = (b"content-type", b"application/json")
JSON_HEADERS: Headers = [JSON, NOSNIFF]
TEXT_HEADERS: Headers = [(b"content-type", b"text/plain; charset=utf-8"), NOSNIFF]

encode_json = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Call:
    """A request, read and authorised: what its route needs of it."""

    params: Mapping[str, str]
    """What the path says: model, version."""
    headers: Mapping[bytes, bytes]
    body: bytes
    since: float | None = None
    """When it had arrived, by `time.perf_counter`; it may have waited since then."""


@dataclass(slots=True)
class Answer:
    """A response. `reply` is the prediction in it, if there is one: the metrics count its rows."""

    body: bytes
    headers: Headers
    status: int = 200
    reply: Reply | None = None
    sent: bool = False
    """Whether it has left already, part by part."""


def headers_by_name(given: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """A request's headers; Contradiction where one of ours is given twice and not alike."""
    named = dict(given)
    if len(named) < len(given):
        for name, value in given:
            if value != named[name] and (name.startswith(b"x-lepton-") or name == HEADER):
                shown = name.decode("latin-1")
                one, other = (text[:100].decode("latin-1") for text in (value, named[name]))
                raise Contradiction(shown, one, "a header", other, "another")
    return named


def json_answer(value: object, status: int = 200) -> Answer:
    """Any value that msgspec writes, as JSON."""
    return Answer(encode_json(value), JSON_HEADERS, status)


async def send_answer(send: Send, answer: Answer) -> None:
    """Send an answer in ASGI's messages."""
    body = answer.body
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [*answer.headers, (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


@dataclass(slots=True)
class Asked:
    """A request for a prediction, read: its rows, and how its reply becomes an answer."""

    call: Call
    columns: Columns
    rows: int
    answer: Callable[[Reply], Answer]
