"""A decision log in plain files: JSON Lines in a directory, readable by anything."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from time import time
from typing import Any

import msgspec

from lepton_files.index import DecisionIndex
from lepton_files.locking import exclusive
from lepton_files.parquet import read_parquet
from lepton_files.place import Place, expire, log_files
from lepton_files.writer import BlockWriter, LineFile
from lepton_plugins.errors import InvalidInput, PathMissing
from lepton_plugins.records.decision import Decision, Feedback
from lepton_plugins.routing.decision_lines import (
    LINES,
    BlockLine,
    FeedbackLine,
    decode_block,
    decode_feedback,
    encode_feedback,
)
from lepton_plugins.routing.store import DecisionBlock, FeedbackReceipt

#: A file is closed and a new one begun at this size.
MAX_BYTES = 64 * 2**20

#: Decisions that may wait to be written.
MAX_ROWS = 200_000


class JsonLinesDecisionLog:
    """Decisions and feedback in `directory`, or at a URI such as `jsonl:///var/log/lepton?max_bytes=1000000&keep=30d`.

    Several processes may use one directory: each writes its own files, and feedback finds the decisions of
    all. Keys stand in it only as keyed hashes. Feedback is known as a duplicate across restarts, as far back
    as the index reaches (`index.RECENT_BYTES`). Files in which nothing was written for `keep` seconds are removed
    (default: never).
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        max_bytes: int | None = None,
        max_rows: int | None = None,
        keep: float | None = None,
    ) -> None:
        place = Place.of(directory)
        self.directory = place.path.absolute()
        self._max_bytes = max_bytes or place.max_bytes or MAX_BYTES
        self._max_rows = max_rows or place.max_rows or MAX_ROWS
        self._keep = keep or place.keep
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"The decision log can't be kept in {self.directory}: {error.strerror}.") from None
        if not os.access(self.directory, os.W_OK):
            raise InvalidInput(f"The decision log can't be kept in {self.directory}: it isn't writable.")
        self._start()

    def _own(self) -> None:
        """Begin anew after a fork: queue, files and locks are the parent's, whose threads aren't here."""
        if self._writer.pid != os.getpid():
            self._finish.detach()
            self._start()

    def _start(self) -> None:
        self._lock = Lock()
        self._index = DecisionIndex(self.directory)
        self._feedback = LineFile(self.directory, "feedback", self._max_bytes)
        self._writer = BlockWriter(self.directory, self._max_bytes, self._max_rows, self._completed())
        # At the process's end what was queued is still written.
        self._finish = weakref.finalize(self, BlockWriter.close, self._writer)

    def _completed(self) -> Callable[[Path], None]:
        """What is done with each file of decisions that is complete; it must not hold this log."""
        directory, keep = self.directory, self._keep
        expire(directory, keep)
        return lambda _: expire(directory, keep)

    @property
    def dropped(self) -> int:
        """Decisions that the full queue, or the disk, didn't take."""
        return self._writer.dropped

    def append(self, block: DecisionBlock) -> None:
        self._own()
        self._writer.append(block)

    def feedback(self, items: Sequence[Feedback]) -> FeedbackReceipt:
        duplicates = 0
        unknown: list[str] = []
        self._own()
        self._writer.drain()
        with self._lock, exclusive(self.directory / "feedback.lock"):
            self._index.catch_up()
            lines = bytearray()
            seen: dict[str, Decision] = {}
            for item in items:
                if item.decision in seen or self._index.has_feedback(item.decision):
                    duplicates += 1
                elif (decision := self._index.find(item.decision)) is None:
                    unknown.append(item.decision)
                else:
                    lines += encode_feedback(item, decision, time())
                    seen[item.decision] = decision
            if lines:
                self._feedback.write(bytes(lines))
                self._index.catch_up()
        return FeedbackReceipt(len(seen), duplicates, unknown, decisions=seen)

    def flush(self) -> None:
        self._own()
        self._writer.sync()
        with self._lock:
            self._feedback.sync()

    def close(self) -> None:
        self._own()
        self._finish()
        with self._lock:
            self._feedback.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), str(self.directory), self._max_bytes, self._max_rows, self._keep)


class LogFiles:
    """A decision log's files, to be read: JSON Lines, Parquet, or both. A directory, one of its files, or a URI."""

    def __init__(self, place: str | Path) -> None:
        self.path = Place.of(place).path
        if not self.path.exists():
            raise PathMissing(self.path, "The decision log")

    def blocks(self) -> Iterator[DecisionBlock]:
        """The decisions by request, oldest file first; lines torn by a crash are left out."""
        for file in self._files("decisions"):
            if file.suffix == ".parquet":
                yield from read_parquet(file)
                continue
            for line in _lines(file):
                if isinstance(line, BlockLine):
                    yield decode_block(line)

    def feedback(self) -> Iterator[tuple[Feedback, Decision]]:
        """The feedback, each with its decision."""
        for file in self._files("feedback"):
            for line in _lines(file):
                if isinstance(line, FeedbackLine):
                    yield decode_feedback(line)

    def _files(self, kind: str) -> list[Path]:
        if self.path.is_file():
            return [self.path] if self.path.suffix != ".parquet" or kind == "decisions" else []
        return log_files(self.path, kind)


def read_blocks(path: str | Path) -> Iterator[DecisionBlock]:
    """The logged decisions by request, oldest file first; lines torn by a crash are left out."""
    return LogFiles(path).blocks()


def read_feedback(path: str | Path) -> Iterator[tuple[Feedback, Decision]]:
    """The logged feedback, each with its decision."""
    return LogFiles(path).feedback()


def read(path: str | Path) -> Iterator[Decision | Feedback]:
    """All decisions, row by row, and then all feedback of a log's directory, or of one of its files."""
    for block in read_blocks(path):
        yield from block.rows()
    for feedback, _ in read_feedback(path):
        yield feedback


def _lines(file: Path) -> Iterator[BlockLine | FeedbackLine]:
    with file.open("rb") as stream:
        for line in stream:
            try:
                yield LINES.decode(line)
            except msgspec.DecodeError:
                continue


def _reopen(
    log: type[JsonLinesDecisionLog], directory: str, max_bytes: int, max_rows: int, keep: float | None
) -> JsonLinesDecisionLog:
    return log(directory, max_bytes=max_bytes, max_rows=max_rows, keep=keep)
