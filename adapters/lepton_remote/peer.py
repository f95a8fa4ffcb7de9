"""What both protocols share: the calls a peer answers, and how its failures are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, PathMissing, RequestInvalid
from lepton_remote.endpoint import Endpoint, Metadata

Tensors = Mapping[str, NDArray[Any]]


class Peer(Protocol):
    """A server of the Open Inference Protocol. Any number of threads may ask it."""

    def metadata(self) -> Metadata:
        """What it says of the model. PeerUnavailable."""
        ...

    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Its outputs for these inputs. PeerUnavailable, PeerTimedOut, PeerRefused."""
        ...

    def close(self) -> None: ...


class PeerUnavailable(LeptonError):
    """A server that can't be reached, or that says that it can't answer now."""

    code = "peer_unavailable"
    http_status = 503

    def __init__(self, url: str, reason: str, retry_after: int | None = None) -> None:
        super().__init__(f"The server at {url} can't be asked: {reason}.")
        self.retry_after = retry_after


class PeerTimedOut(LeptonError):
    """A server that took too long."""

    code = "timed_out"
    http_status = 504

    def __init__(self, url: str, seconds: float) -> None:
        super().__init__(f"The server at {url} didn't answer within {seconds:g} s.")


class PeerRefused(RequestInvalid):
    """Rows that a server refused: their own fault, as it says. What it said stays in the log: it may name files."""

    code = "peer_refused"

    def __init__(self, status: str) -> None:
        super().__init__(f"The version's own server refused the rows ({status})")


class PeerAnswerInvalid(LeptonError):
    """An answer that isn't what the protocol says."""

    code = "peer_answer_invalid"
    http_status = 502

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"The server at {url} gave an answer that can't be read: {reason}.")


def retry_after(status: int, said: str | None) -> int | None:
    """Seconds that a peer's answer 429 or 503 asks to wait: a number or a date (RFC 9110, section 10.2.3).

    From 1 to 60, whatever it says: a caller needn't believe in hours. None where it says nothing that can be read.
    """
    if said is None or status not in (429, 503):
        return None
    said = said.strip()
    if said.isascii() and said.isdigit():
        seconds = float(said)
    else:
        try:
            seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):  # TypeError: a date that tells no zone.
            return None
    return ceil(max(1.0, min(seconds, 60.0)))


def token_of(endpoint: Endpoint) -> str | None:
    """The bearer token that the endpoint's file holds."""
    if endpoint.token_file is None:
        return None
    file = Path(endpoint.token_file)
    if not file.is_file():
        raise PathMissing(file, "The peer's token")
    return file.read_text(encoding="utf-8").strip()
