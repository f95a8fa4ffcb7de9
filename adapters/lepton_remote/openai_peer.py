"""A version behind OpenAI's chat completions: of OpenAI itself, vLLM, llama.cpp, Ollama and others.

Source: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import OutputUnavailable, StreamingUnavailable
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.signature import Signature
from lepton_plugins.routing.streaming import Cancellation
from lepton_remote.connections import Connections
from lepton_remote.endpoint import Endpoint, Metadata
from lepton_remote.identity import Identity
from lepton_remote.peer import PeerAnswerInvalid, PeerRefused, PeerUnavailable, retry_after, token_of

logger = logging.getLogger("lepton_remote")

_PATH = "/v1/chat/completions"
#: Bytes of one event, and of an answer that is no stream.
_LONGEST_EVENT, _LONGEST_ANSWER = 1 << 20, 32 << 20
_LAST = b"[DONE]"


class _Listed(msgspec.Struct):
    id: str
    owned_by: str = ""


class _Models(msgspec.Struct):
    data: list[_Listed]


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class OpenAiPeer:
    """The calls of one server. Any number of threads may ask it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._url, self._model = endpoint.url, endpoint.model
        self._connections = Connections(endpoint.url, endpoint.connections, endpoint.timeout)
        token = token_of(endpoint)
        self._headers = {"content-type": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"

    def metadata(self) -> Metadata:
        """What its list says of the model. PeerUnavailable."""
        status, answered, content = self._connections.ask("GET", "/v1/models", None, self._headers)
        if status != 200:
            later = retry_after(status, answered.get("retry-after"))
            raise PeerUnavailable(self._url, f"it answered {status} for /v1/models", later)
        try:
            listed = {item.id: item for item in msgspec.json.decode(content, type=_Models).data}
        except msgspec.DecodeError as error:
            raise PeerAnswerInvalid(self._url, str(error)) from None
        if self._model not in listed:
            raise PeerUnavailable(self._url, f"it has no model {self._model!r}, only {', '.join(listed)[:300]}")
        return Metadata(name=self._model, platform=listed[self._model].owned_by)

    def parts(self, request: Mapping[str, Any], cancelled: Cancellation) -> Iterator[bytes]:
        """Its events, each with its empty line; the whole answer where the request doesn't ask for a stream.

        PeerUnavailable, PeerTimedOut, PeerRefused, PeerAnswerInvalid.
        """
        body = msgspec.json.encode({**request, "model": self._model})
        with self._connections.streaming(_PATH, body, self._headers, cancelled) as response:
            if response.status != 200:
                self._refused(response)
            if not request.get("stream"):
                yield self._whole(response)
                return
            if not (response.getheader("content-type") or "").startswith("text/event-stream"):
                raise PeerAnswerInvalid(self._url, "it isn't a stream of events")
            yield from self._events(response)

    def close(self) -> None:
        self._connections.close()

    def _events(self, response: HTTPResponse) -> Iterator[bytes]:
        event = b""
        while line := response.readline(_LONGEST_EVENT):
            if line.strip():
                event += line
                if len(event) >= _LONGEST_EVENT:
                    raise PeerAnswerInvalid(self._url, f"an event has more than {_LONGEST_EVENT} bytes")
            elif event:
                yield event + b"\n"
                if _LAST in event and _is_last(event):
                    return
                event = b""
        raise PeerAnswerInvalid(self._url, "it ended before [DONE]")

    def _whole(self, response: HTTPResponse) -> bytes:
        content = response.read(_LONGEST_ANSWER + 1)
        if len(content) > _LONGEST_ANSWER:
            raise PeerAnswerInvalid(self._url, f"it has more than {_LONGEST_ANSWER} bytes")
        return content

    def _refused(self, response: HTTPResponse) -> None:
        logger.info("%s answered %d: %s", self._url, response.status, response.read(300))
        if response.status in (400, 413, 422):
            raise PeerRefused(str(response.status))
        later = retry_after(response.status, response.getheader("retry-after"))
        raise PeerUnavailable(self._url, f"it answered {response.status}", later)


def _is_last(event: bytes) -> bool:
    """Whether its data say so: comments, a name and an id may stand beside them."""
    return any(line.startswith(b"data:") and line[5:].strip() == _LAST for line in event.splitlines())


class ChatModel:
    """A chat model in the shape of a loaded one. As a label it answers the text of the first choice.

    The peer must say of the model what it said when the version was registered.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.signature: Signature | None = endpoint.signature
        self.classes = endpoint.classes
        self.connections = endpoint.connections
        self._endpoint = endpoint
        self._peer = OpenAiPeer(endpoint)
        self._identity = Identity(endpoint, self._peer.metadata)

    def predict(self, columns: Mapping[str, NDArray[Any]], output: OutputKind) -> NDArray[Any]:
        if output != "label":
            raise OutputUnavailable(None, output, "text")
        self._identity.check()
        texts = [self._text(messages) for messages in columns["messages"]]
        return np.array(texts, dtype=object)

    def stream(
        self, columns: Mapping[str, NDArray[Any]], request: Mapping[str, Any] | None, cancelled: Cancellation
    ) -> Iterator[bytes]:
        """The answer to a chat completion, as it comes."""
        if request is None:
            raise StreamingUnavailable("This version", "parts but to /v1/chat/completions")
        self._identity.check()
        return self._peer.parts(request, cancelled)

    def close(self) -> None:
        self._peer.close()

    def _text(self, messages: Any) -> str:
        (content,) = self._peer.parts({"messages": messages}, Cancellation())
        try:
            return msgspec.json.decode(content, type=_Completion).choices[0].message.content or ""
        except (msgspec.DecodeError, IndexError) as error:
            raise PeerAnswerInvalid(self._endpoint.url, str(error)) from None
