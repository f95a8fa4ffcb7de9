"""How a server is set up: where it listens, what it lets in, what it keeps."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from lepton_plugins.errors import InvalidInput, PathMissing
from lepton_plugins.records.quantity import parse_bytes
from lepton_plugins.records.record import Record


class Limits(Record):
    """What one request may cost. Sizes in bytes, times in seconds."""

    body: int = Field(default=32 << 20, gt=0)
    header: int = Field(default=32 << 10, gt=0)
    """The request line and all headers together."""
    rows: int = Field(default=100_000, gt=0)
    tensors: int = Field(default=4096, gt=0)
    body_time: float = Field(default=30.0, gt=0)
    """From the first part of a request that comes in several to its last."""
    part_time: float = Field(default=60.0, gt=0)
    """To the first part of an answer that comes in parts, between two parts, and until a client has taken one."""
    in_flight: int = Field(default=1024, gt=0)
    """Requests being answered at once; the next is told to come back."""
    queued: int = Field(default=1024, gt=0)
    """Requests that wait for a thread; the next is told to come back."""


class ServingSettings(Record):
    """Settings of one server. `host` is the address that it is bound to: loopback needs no token."""

    host: str = "127.0.0.1"
    """An address, or the path of a Unix socket, which begins with a slash."""
    certificate: Path | None = None
    """PEM file with the server's certificate (and its chain): then TLS is spoken, over HTTP and gRPC alike."""
    key: Path | None = None
    """PEM file with the certificate's key, where it isn't in the same file."""
    token: SecretStr | None = None
    allowed_hosts: tuple[str, ...] = ()
    """Names by which admin routes may be reached, beside localhost and `host`."""
    aliases: tuple[str, ...] = ()
    """Further names that requests may call the model by."""
    grpc_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of the Open Inference Protocol over gRPC on the same host; 0 takes a free one, None: not served."""
    decisions: str | None = None
    """URI of the decision log (`file:///var/lib/lepton/decisions`); None: nothing is kept."""
    log_context: bool = True
    """Whether the decision log has the columns that decisions were made by."""
    learning: str | None = Field(default_factory=lambda: os.environ.get("LEPTON_LEARNING"))
    """Where what a policy learns is kept: a directory, or a URI such as `redis://host:6379/0`; None: in memory.

    Default: LEPTON_LEARNING, which reaches servers that other tools start."""
    threads: int | None = Field(default=None, gt=0)
    """Threads that one arm may use for one call; None: the whole cores that the plan gives it, else one."""
    workers: int = Field(default=1, gt=0)
    """Processes that answer on the same address."""
    model_memory: Annotated[int | None, BeforeValidator(parse_bytes)] = None
    """Bytes of versions' files that stay loaded, such as 2Gi: others are loaded when asked for.

    None: as the plan says (`resources.model_memory`), else all are."""
    call_threads: int = Field(default=64, gt=0)
    """Threads for calls that are too long for the event loop; those of one version are answered together."""
    busy_poll: float | None = Field(default=None, ge=0, le=0.01)
    """Seconds to look for the next request before going to sleep, while requests follow one another so closely.

    None: 0.0002 where each worker has a core to spare, else 0, which is never."""
    poll: float = Field(default=0.5, gt=0)
    """Seconds between two looks at a state directory's pointer."""
    limits: Limits = Limits()

    @field_validator("certificate", "key")
    @classmethod
    def _exists(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise PathMissing(path, "TLS")
        return path

    @model_validator(mode="after")
    def _key_with_certificate(self) -> ServingSettings:
        if self.key is not None and self.certificate is None:
            raise InvalidInput("Found a key for TLS without a certificate: give both.")
        return self

    def with_token(self, token: str) -> ServingSettings:
        return self.model_copy(update={"token": SecretStr(token)})

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host.startswith("/"):
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"


def token_from(environ: Mapping[str, str], file: Path | None = None) -> SecretStr | None:
    """The bearer token: of `file`, else LEPTON_TOKEN, else of the file that LEPTON_TOKEN_FILE names."""
    if file is None and environ.get("LEPTON_TOKEN"):
        return _checked(environ["LEPTON_TOKEN"], "LEPTON_TOKEN")
    named = file or (Path(environ["LEPTON_TOKEN_FILE"]) if environ.get("LEPTON_TOKEN_FILE") else None)
    if named is None:
        return None
    if not named.is_file():
        raise PathMissing(named, "The token's file")
    return _checked(named.read_text(encoding="utf-8"), str(named))


def _checked(text: str, where: str) -> SecretStr:
    token = text.strip()
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput(f"{where}: expected a token of at least 16 printable ASCII characters without spaces.")
    return SecretStr(token)
