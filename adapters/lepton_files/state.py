"""Learning state in files: one a model, replaced as a whole, shared by the processes of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from threading import Lock
from time import time
from typing import Any

import msgspec
import numpy as np

from lepton_files.locking import exclusive
from lepton_files.place import Place
from lepton_plugins.atomic_file import write_atomically
from lepton_plugins.errors import StateAway, StateInvalid
from lepton_plugins.routing.learning_state import Flush, Sums, add
from lepton_plugins.routing.ledger import Ledger, MemoryLedger

#: How long a replica's last flush is remembered, in seconds: one that is sent again later counts twice.
_REPLICA = 30 * 86_400.0
_MAGIC = b"lepton learning state 1\n"


class _Kept(msgspec.Struct, array_like=True):
    """Sums as (era, little-endian doubles) by key; each replica's last flush as (number, time)."""

    sums: dict[str, tuple[int, bytes]]
    replicas: dict[str, tuple[int, float]]


_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Kept)


class FileStateStore:
    """Learning state in `directory`, or at a URI such as `file:///var/lib/lepton/state`.

    A file is written beside the old one, brought to the disk and put in its place: a crash leaves the one or the
    other. Processes take turns by a lock. Decisions are remembered by the process that made them; with a decision log
    in a shared directory, rewards may come to any process.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Place.of(directory).path.absolute()
        self.ledger: Ledger = MemoryLedger()
        self._lock = Lock()

    def exchange(self, model: str, keys: Sequence[str], flush: Flush | None) -> dict[str, Sums]:
        file = self.directory / f"{sha256(model.encode()).hexdigest()[:24]}.state"
        try:
            if flush is None:
                return _read(file, keys) if file.exists() else {}
            self.directory.mkdir(parents=True, exist_ok=True)
            with self._lock, exclusive(file.with_suffix(".lock")):
                return _add(file, keys, flush)
        except OSError as error:
            raise StateAway(str(self.directory), error.strerror or str(error)) from None

    def close(self) -> None:
        """Nothing stays open."""

    def __reduce__(self) -> tuple[Any, ...]:
        return FileStateStore, (str(self.directory),)


def _read(file: Path, keys: Sequence[str]) -> dict[str, Sums]:
    kept = _decoded(file)
    return {key: _sums(*kept.sums[key]) for key in keys if key in kept.sums}


def _add(file: Path, keys: Sequence[str], flush: Flush) -> dict[str, Sums]:
    kept = _decoded(file) if file.exists() else _Kept({}, {})
    now = time()
    if kept.replicas.get(flush.replica, (0, 0.0))[0] < flush.sequence:
        total = {key: _sums(*kept.sums[key]) for key in flush.sums if key in kept.sums}
        add(total, flush.sums)
        kept.sums.update({key: (sums.era, sums.values.astype("<f8").tobytes()) for key, sums in total.items()})
        kept.replicas = {name: seen for name, seen in kept.replicas.items() if seen[1] > now - _REPLICA}
        kept.replicas[flush.replica] = flush.sequence, now
        _write(file, kept)
    return {key: _sums(*kept.sums[key]) for key in keys if key in kept.sums}


def _sums(era: int, raw: bytes) -> Sums:
    return Sums(era, np.frombuffer(raw, dtype="<f8").astype(np.float64))


def _decoded(file: Path) -> _Kept:
    content = file.read_bytes()
    head = len(_MAGIC) + 32
    if not content.startswith(_MAGIC):
        raise StateInvalid(str(file), "other content")
    if sha256(content[head:]).digest() != content[len(_MAGIC) : head]:
        raise StateInvalid(str(file), "content that doesn't have the digest that it states")
    return _DECODER.decode(content[head:])


def _write(file: Path, kept: _Kept) -> None:
    body = _ENCODER.encode(kept)
    write_atomically(file, _MAGIC + sha256(body).digest() + body)
