"""Deployment directory, requests and the process that answers them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lepton_plugins.errors.base import LeptonError, _shown, nearest


class DirectoryInvalid(LeptonError):
    """A deployment directory that can't be served."""

    code = "directory_invalid"

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path} is not a deployment directory that can be used: {reason}. `lepton pull` makes one.")


class RequestInvalid(LeptonError):
    """A request that doesn't fit the protocol or the signature; `field` and `expected` go into the answer."""

    code = "request_invalid"

    def __init__(self, found: str, *, field: str | None = None, expected: str | None = None) -> None:
        super().__init__(f"{found}; expected {expected}." if expected else found)
        self.field = field
        self.expected = expected


class Contradiction(RequestInvalid):
    """A request that says one thing in two places, and not the same."""

    code = "contradiction"

    def __init__(self, what: str, one: str, where: str, other: str, elsewhere: str) -> None:
        super().__init__(
            f"Found {what} {one!r} in {where} and {other!r} in {elsewhere}",
            field=what,
            expected="one of them, or both the same",
        )


class InputMissing(RequestInvalid):
    """A request without an input that the signature requires."""

    code = "input_missing"

    def __init__(self, field: str, given: Iterable[str], expected: str) -> None:
        super().__init__(f"Input {field!r} is missing: found {_shown(given)}", field=field, expected=expected)


class InputUnknown(RequestInvalid):
    """A request with an input that the signature doesn't know."""

    code = "input_unknown"

    def __init__(self, field: str, known: Iterable[str]) -> None:
        super().__init__(
            f"Input {field!r} isn't in the signature.{nearest(field, known)}",
            field=field,
        )
        self.expected = _shown(known)


class InputInvalid(RequestInvalid):
    """An input whose type, shape or values don't fit the signature."""

    code = "input_invalid"

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(f"Input {field!r}: found {found}", field=field, expected=expected)


class TooManyRows(RequestInvalid):
    """A request with more rows than the server takes."""

    code = "too_many_rows"
    http_status = 413

    def __init__(self, found: int, limit: int) -> None:
        super().__init__(f"Found {found} rows in one request", expected=f"at most {limit}: split the request")


class BodyTooLarge(RequestInvalid):
    """A request body beyond the limit, told by its length or counted while it arrives."""

    code = "body_too_large"
    http_status = 413

    def __init__(self, limit: int) -> None:
        super().__init__("The request's body is too large", expected=f"at most {limit} bytes")


class HeadersTooLarge(RequestInvalid):
    """A request line and headers beyond the limit."""

    code = "headers_too_large"
    http_status = 431

    def __init__(self, limit: int) -> None:
        super().__init__("The request's headers are too large", expected=f"at most {limit} bytes")


class BodyTooSlow(RequestInvalid):
    """A request body that didn't arrive in time."""

    code = "body_too_slow"
    http_status = 408

    def __init__(self, seconds: float) -> None:
        super().__init__("The request's body didn't arrive in time", expected=f"all of it within {seconds:g} s")


class MediaTypeUnsupported(RequestInvalid):
    """A body in a media type or encoding that the route doesn't take."""

    code = "media_type_unsupported"
    http_status = 415

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"Found the content type or encoding {found!r}", expected=expected)


class StreamingUnavailable(RequestInvalid):
    """An answer in parts was asked of what gives whole ones only."""

    code = "streaming_unavailable"

    def __init__(self, who: str, what: str = "answers in parts") -> None:
        super().__init__(f"{who} gives no {what}", expected="a request to /v2/models/NAME/infer or /invocations")


class StreamTooSlow(LeptonError):
    """An answer in parts whose next part didn't come."""

    code = "stream_too_slow"
    http_status = 504

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The next part of the answer didn't come within {seconds:g} s.")


class ModelNotServed(LeptonError):
    """A request for another model than the server's."""

    code = "model_not_found"
    http_status = 404

    def __init__(self, found: str, model: str) -> None:
        super().__init__(f"Found the model {found!r}; this server has {model!r}.")


class RouteNotFound(LeptonError):
    """No route of this path."""

    code = "route_not_found"
    http_status = 404

    def __init__(self, model: str) -> None:
        super().__init__(f"No such route. Try GET /v2, POST /v2/models/{model}/infer or POST /invocations.")


class MethodNotAllowed(LeptonError):
    """A route that exists, asked with another method."""

    code = "method_not_allowed"
    http_status = 405

    def __init__(self, found: str, allowed: Sequence[str]) -> None:
        super().__init__(f"Found method {found}, expected {' or '.join(allowed)}.")
        self.allowed = tuple(allowed)


class TokenRequired(LeptonError):
    """A route that needs the bearer token, asked without it or with another."""

    code = "token_required"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("This needs the server's token: send the header 'Authorization: Bearer TOKEN'.")


class Overloaded(LeptonError):
    """More requests at once than the server takes."""

    code = "overloaded"
    http_status = 503

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} requests are being answered already. Try again in a second.")


class FeedbackUnavailable(LeptonError):
    """Feedback for a server that keeps no decisions."""

    code = "feedback_unavailable"
    http_status = 409

    def __init__(self) -> None:
        super().__init__("This server keeps no decisions that feedback could join. Start it with a decision log.")


class ContextNotLogged(LeptonError):
    """Decisions without a column that a policy reads: it can't be asked what it does with them."""

    code = "context_not_logged"

    def __init__(self, lacking: Iterable[str], found: Iterable[str]) -> None:
        names = list(lacking)
        super().__init__(
            f"The policy reads {_shown(names)}; found {_shown(found)} in the logged context. Log it: "
            f"`decisions: {{columns: [{', '.join(names)}]}}` in the plan file in force, neither dropped nor redacted."
        )


class LogUnreadable(LeptonError):
    """A file of a decision log that isn't what its name says."""

    code = "log_unreadable"

    def __init__(self, file: object, reason: str) -> None:
        super().__init__(f"{file} can't be read as a decision log: {reason}. Move it away, or name another log.")


class FeedbackUndelivered(LeptonError):
    """Feedback that the receiver of events doesn't take now."""

    code = "feedback_undelivered"
    http_status = 503

    def __init__(self, stored: int, given: int) -> None:
        super().__init__(
            f"Where decisions are sent to takes no feedback now: {stored} of {given} were taken. Send all again later; "
            f"those count once."
        )


class NotReady(LeptonError):
    """A server that has no plan loaded yet."""

    code = "not_ready"
    http_status = 503

    def __init__(self) -> None:
        super().__init__("The server is starting: no plan is loaded yet. Try again in a second.")


class AddressTaken(LeptonError):
    """A port, or a Unix socket, that another process listens on."""

    code = "address_taken"

    def __init__(self, host: str, port: int | None, reason: str, option: str = "--port") -> None:
        where, other = (host, "--host") if port is None else (f"{host}:{port}", option)
        super().__init__(f"Can't listen on {where}: {reason}. Stop the other server, or pass another {other}.")


class PairInvalid(LeptonError):
    """Files for TLS that aren't a certificate and its key."""

    code = "tls_invalid"

    def __init__(self, certificate: object, key: object | None, reason: str) -> None:
        files = f"{certificate}" if key is None else f"{certificate} and {key}"
        super().__init__(
            f"TLS can't be spoken with {files}: {reason}. Expected a certificate (--certificate) and the key that "
            f"belongs to it, not encrypted, both as PEM (--key: where it is in a file of its own)."
        )


class WorkerFailed(LeptonError):
    """A worker process that can't begin to serve; `code` is its own error's."""

    code = "worker_failed"

    def __init__(self, worker: int, reason: str, code: str | None) -> None:
        super().__init__(f"Worker {worker} can't serve: {reason}")
        if code is not None:
            self.code = code


class WorkersUnavailable(LeptonError):
    """Several workers where the system can't share a socket between processes."""

    code = "workers_unavailable"

    def __init__(self, found: int) -> None:
        super().__init__(f"Found {found} workers; this system runs one: leave --workers out.")


class PointerInvalid(LeptonError):
    """A state directory whose pointer names no revision."""

    code = "pointer_invalid"

    def __init__(self, found: str) -> None:
        super().__init__(
            f"The pointer file `current` holds {found!r}, expected 'revisions/<sha256 of the plan>'. "
            f"Remove it and start `lepton serve NAME` again."
        )


class FollowerFailed(LeptonError):
    """The process that follows the registry brought no plan to start with."""

    code = "follower_failed"

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"No plan of {model!r} could be pulled: {reason}")


class Forbidden(LeptonError):
    """A request that the guard refused."""

    code = "forbidden"
    http_status = 403
