"""Answers in parts, as server-sent events: of the Open Inference Protocol's generate extension, and of OpenAI's chat.

Sources: https://html.spec.whatwg.org/multipage/server-sent-events.html,
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/generate_rest.yaml,
https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import Receive, Send

from lepton_plugins.errors import Overloaded, RequestInvalid, StreamingUnavailable, StreamTooSlow
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.routing.streaming import Cancellation, close
from lepton_plugins.serving.call import JSON, Answer, Call, Headers, encode_json
from lepton_plugins.serving.failure import error_answer
from lepton_plugins.serving.payload import decode
from lepton_plugins.serving.reply import Reply
from lepton_plugins.serving.served import Served

EVENTS: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]

_OBJECT = msgspec.json.Decoder(dict[str, Any])

#: Parts that wait for a client that reads slowly; the version waits then.
_AHEAD = 16


@dataclass(slots=True)
class AskedStream:
    """A request for an answer in parts, read. `request` goes to the version as it is; `write` makes bytes of a part."""

    call: Call
    columns: Columns
    write: Callable[[Reply, Any], bytes]
    request: Mapping[str, Any] | None = None
    events: bool = True
    """Whether the answer is a stream; else it is one part, in JSON."""


def generate_stream(served: Served, call: Call) -> AskedStream:
    """Answer one row in parts, each an event, by the version that the plan chooses for it."""
    served.check_model(call.params["model"])
    _check_streams(served)
    body = decode(_OBJECT, call.body)
    identity = body.pop("id", None)
    if not isinstance(identity, str | None):
        raise RequestInvalid("`id` isn't a string", field="id", expected="a string")
    parameters = body.pop("parameters", None)
    if "text_input" in body and "text_input" not in served.reader.fields:
        names = [name for name in served.reader.names if name not in body and name in served.reader.required]
        if len(names) == 1:  # The protocol's word for the only input that is left.
            body[names[0]] = body.pop("text_input")

    def write(reply: Reply, part: Any) -> bytes:
        said: dict[str, Any] = {"model_name": served.model, "model_version": reply.version}
        said["id"] = identity if identity is not None else reply.decision
        said["text_output" if isinstance(part, str) else "output"] = part
        return b"data: " + encode_json(said) + b"\n\n"

    columns, rows = served.reader.columns({name: [value] for name, value in body.items()})
    return AskedStream(call, served.reader.with_parameters(parameters, columns, rows), write)


def chat(served: Served, call: Call) -> AskedStream:
    """Answer an OpenAI chat completion by the version that the plan chooses; in parts where it says `stream`."""
    body = decode(_OBJECT, call.body)
    for name, kind, expected in (("model", str, "the model's name"), ("messages", list, "a list of messages")):
        if not isinstance(body.get(name), kind):
            found = f"`{name}` isn't {expected}" if name in body else f"Found no `{name}`"
            raise RequestInvalid(found, field=name, expected=expected)
    if not isinstance(body.get("stream", False), bool | None):
        raise RequestInvalid("`stream` isn't true or false", field="stream", expected="true or false")
    served.check_model(body["model"])
    _check_streams(served)
    if "messages" not in served.reader.fields:
        raise StreamingUnavailable(
            f"The model {served.model!r}, whose signature has no `messages`,", "chat completions"
        )
    # What the plan's signature knows decides; all the rest is between the client and the version.
    known = {name: [body[name]] for name in served.reader.names if name in body and name != "model"}
    columns, _ = served.reader.columns(known)
    return AskedStream(call, columns, lambda _, part: bytes(part), body, bool(body.get("stream")))


def _check_streams(served: Served) -> None:
    if not served.router.streams:
        raise StreamingUnavailable(f"No version of {served.model!r}")


class Streams:
    """Runs streams, each in a thread of its own: at most `most`, the next is told to come back.

    `wait` is the longest time to the first part, between two parts, and until a client has taken one, in seconds.
    """

    def __init__(self, most: int, wait: float) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="lepton-stream")
        self._most = most
        self._wait = wait
        self._running = 0

    async def answer(self, served: Served, asked: AskedStream, receive: Receive, send: Send) -> Answer:
        """Send an answer part by part; what goes wrong before the first part is raised, later it is an event."""
        if self._running >= self._most:
            raise Overloaded(self._most)
        relay = _Relay(served, asked, asyncio.get_running_loop())
        self._running += 1
        served.active += 1  # Until the version's thread is done: it may be later than the client.

        def done(_: object) -> None:
            self._running -= 1
            served.active -= 1

        asyncio.get_running_loop().run_in_executor(self._threads, relay.run).add_done_callback(done)
        watch = asyncio.create_task(relay.watch(receive))
        try:
            reply: Reply = await relay.next(self._wait)
            if not asked.events:
                whole = await relay.next(self._wait)
                return Answer(whole, reply.headers, 200, reply)
            headers = [header for header in reply.headers if header is not JSON]
            await send({"type": "http.response.start", "status": 200, "headers": [*EVENTS, *headers]})
            await self._send_parts(relay, send)
            return Answer(b"", [], 200, reply, sent=True)
        finally:
            relay.end()
            watch.cancel()

    async def _send_parts(self, relay: _Relay, send: Send) -> None:
        more = True
        while more:
            try:
                part = await relay.next(self._wait)
                more = part is not None
            except Exception as error:
                if relay.left:
                    return
                part, more = b"event: error\ndata: " + error_answer(error).body + b"\n\n", False
            try:
                message = {"type": "http.response.body", "body": part or b"", "more_body": more}
                await asyncio.wait_for(send(message), self._wait)
            except TimeoutError:
                return  # A client that doesn't read; the server closes what isn't complete.

    def close(self) -> None:
        self._threads.shutdown(wait=True)


class _Relay:
    """Hands the parts from the version's thread to the event loop, and the client's leaving back."""

    def __init__(self, served: Served, asked: AskedStream, loop: asyncio.AbstractEventLoop) -> None:
        self._served, self._asked, self._loop = served, asked, loop
        self._parts: asyncio.Queue[Any] = asyncio.Queue(_AHEAD)
        self._gone = loop.create_future()
        self._cancelled = Cancellation()

    # --- the version's thread --------------------------------------------------------------

    def run(self) -> None:
        """The reply, the parts as bytes, None; an error in place of what it prevented."""
        asked = self._asked
        parts = None
        try:
            reply, parts = self._served.stream(asked.call, asked.columns, asked.request, self._cancelled)
            self._put(reply)
            for part in parts:
                if not self._put(asked.write(reply, part)):
                    return
            self._put(None)
        except Exception as error:
            self._put(error)
        finally:
            if parts is not None:
                close(parts)

    def _put(self, item: Any) -> bool:
        if not self._cancelled.done:
            asyncio.run_coroutine_threadsafe(self._parts.put(item), self._loop).result()
        return not self._cancelled.done

    # --- the event loop --------------------------------------------------------------------

    @property
    def left(self) -> bool:
        """Whether the client has gone away."""
        return self._gone.done()

    async def watch(self, receive: Receive) -> None:
        """Until the client goes away: then the version needn't go on."""
        message = await receive()
        if message["type"] == "http.disconnect" and not self._gone.done():
            self._gone.set_result(None)
            self._cancelled.set()

    async def next(self, wait: float) -> Any:
        """What comes next from the version; StreamTooSlow, or its own error."""
        if self._parts.empty():
            coming = asyncio.ensure_future(self._parts.get())
            await asyncio.wait({coming, self._gone}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                raise RequestInvalid("The client went away") if self.left else StreamTooSlow(wait)
            item = coming.result()
        else:
            item = self._parts.get_nowait()
        if isinstance(item, Exception):
            raise item
        return item

    def end(self) -> None:
        """Nobody takes any more parts: the thread isn't left waiting for it."""
        self._cancelled.set()
        while not self._parts.empty():
            self._parts.get_nowait()
