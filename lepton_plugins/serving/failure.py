"""Errors as the wire shows them: a sentence, a stable code, what was expected; never a trace or a path."""

from __future__ import annotations

import logging
import secrets

from lepton_plugins.errors import (
    BodyTooLarge,
    BodyTooSlow,
    FeedbackUnavailable,
    Forbidden,
    HeadersTooLarge,
    LeptonError,
    MethodNotAllowed,
    ModelNotServed,
    NotReady,
    NoVersionAnswered,
    NullUnanswered,
    OutputInvalid,
    Overloaded,
    RequestInvalid,
    RouteNotFound,
    StreamTooSlow,
    TokenRequired,
    VersionNotFound,
)
from lepton_plugins.serving.call import JSON_HEADERS, Answer, Headers, encode_json

logger = logging.getLogger("lepton_plugins.serving")

#: Errors that speak of the request alone; the message of any other could name a file or a host.
PUBLIC = (
    FeedbackUnavailable,
    Forbidden,
    MethodNotAllowed,
    ModelNotServed,
    NotReady,
    NoVersionAnswered,
    OutputInvalid,
    Overloaded,
    RequestInvalid,
    RouteNotFound,
    StreamTooSlow,
    TokenRequired,
    VersionNotFound,
)

CLOSE = (b"connection", b"close")

#: A client can name a field in megabytes; what is said of it stays readable.
_LONGEST = 600


def error_answer(error: Exception) -> Answer:
    """The answer to a failed request. What isn't the client's fault is logged under an opaque id."""
    if not isinstance(error, PUBLIC):
        return _unexpected(error)
    said: dict[str, object] = {"error": _short(str(error)), "code": error.code}
    if isinstance(error, RequestInvalid):
        if error.field is not None:
            said["field"] = _short(error.field)
        if error.expected is not None:
            said["expected"] = _short(error.expected)
    if isinstance(error, NullUnanswered):
        said["field"] = _short(error.inputs[0])
        said["expected"] = "a value, or a version that takes null"
    if isinstance(error, NoVersionAnswered):
        said["id"] = error.reference
    return Answer(encode_json(said), _headers(error), error.http_status)


def _unexpected(error: Exception) -> Answer:
    identity = secrets.token_hex(8)
    code = error.code if isinstance(error, LeptonError) else "internal_error"
    logger.error("request failed, error id %s", identity, exc_info=error)
    said = {"error": f"The server failed to answer. Its log tells more under the id {identity}.", "code": code}
    return Answer(encode_json({**said, "id": identity}), JSON_HEADERS, 500)


def _headers(error: LeptonError) -> Headers:
    if isinstance(error, TokenRequired):
        return [*JSON_HEADERS, (b"www-authenticate", b"Bearer")]
    if isinstance(error, MethodNotAllowed):
        return [*JSON_HEADERS, (b"allow", ", ".join(error.allowed).encode())]
    if isinstance(error, Overloaded | NotReady) or (isinstance(error, NoVersionAnswered) and error.http_status == 503):
        return [*JSON_HEADERS, (b"retry-after", str(error.retry_after or 1).encode())]
    if isinstance(error, BodyTooLarge | BodyTooSlow | HeadersTooLarge):
        # What is still on its way isn't waited for.
        return [*JSON_HEADERS, CLOSE]
    return JSON_HEADERS


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
