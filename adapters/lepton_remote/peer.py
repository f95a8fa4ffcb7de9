"""What both protocols share: the calls a peer answers, and how its failures are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"The server at {url} can't be asked: {reason}.")


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


def token_of(endpoint: Endpoint) -> str | None:
    """The bearer token that the endpoint's file holds."""
    if endpoint.token_file is None:
        return None
    file = Path(endpoint.token_file)
    if not file.is_file():
        raise PathMissing(file, "The peer's token")
    return file.read_text(encoding="utf-8").strip()
