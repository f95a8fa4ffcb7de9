"""Writing lines in a thread of its own: appending never waits for a disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import IO
from uuid import uuid4

from lepton_plugins.routing.decision_lines import encode_block
from lepton_plugins.routing.decision_queue import DecisionQueue
from lepton_plugins.routing.store import DecisionBlock

logger = logging.getLogger("lepton_files")

#: Rows of a block whose line is made by who appends it, in some µs: each time that two threads hand the interpreter's
#: lock to and fro, requests may wait for milliseconds until the system lets theirs go on.
_SMALL = 64


class LineFile:
    """Appends lines to files `<kind>-<time>-<writer>.jsonl` in a directory, a new one when one is full.

    Each process writes files of its own, so that a torn line can only be a file's last one. `closed` is told
    each file that is complete.
    """

    def __init__(
        self, directory: Path, kind: str, max_bytes: int, closed: Callable[[Path], None] | None = None
    ) -> None:
        self._directory = directory
        self._closed = closed
        self._kind = kind
        self._max_bytes = max_bytes
        self._stream: IO[bytes] | None = None
        self._path = directory
        self._begun = 0.0
        self._written = 0

    @property
    def age(self) -> float:
        """Seconds since the file that is being written was begun; 0 without one."""
        return monotonic() - self._begun if self._stream is not None else 0.0

    def write(self, lines: bytes) -> None:
        """Hand whole lines to the operating system; OSError where it can't take them."""
        if self._stream is None or (self._written and self._written + len(lines) > self._max_bytes):
            self._rotate()
        assert self._stream is not None
        try:
            self._stream.write(lines)
            self._stream.flush()
        except OSError:
            self.abandon()
            if not self._written:  # Else a disk that stays full gets an empty file with each request.
                self._path.unlink(missing_ok=True)
            raise
        self._written += len(lines)

    def sync(self) -> None:
        if self._stream is not None:
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        if self._stream is not None:
            self.sync()
            self._stream.close()
            self._stream = None
            if self._closed is not None:
                self._closed(self._path)

    def abandon(self) -> None:
        """Leave a file whose last line may be torn."""
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError:
                pass

    def _rotate(self) -> None:
        self.close()
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._path = self._directory / f"{self._kind}-{stamp}-{uuid4().hex[:8]}.jsonl"
        self._stream = self._path.open("xb")
        self._begun = monotonic()
        self._written = 0
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Line:
    """A block that is encoded; its length is that of the block."""

    __slots__ = ("_rows", "text")

    def __init__(self, rows: int, text: bytes) -> None:
        self._rows = rows
        self.text = text

    def __len__(self) -> int:
        return self._rows


class BlockWriter:
    """Blocks as lines in files: a bounded queue, and a thread that writes, and encodes large ones."""

    def __init__(
        self, directory: Path, max_bytes: int, max_rows: int, closed: Callable[[Path], None] | None = None
    ) -> None:
        self._file = LineFile(directory, "decisions", max_bytes, closed)
        self._queue: DecisionQueue[_Line | DecisionBlock] = DecisionQueue(self._write, max_rows, "lepton-decision-log")
        self.drain = self._queue.drain
        #: The disk's own lock: whoever appends waits for no disk.
        self._disk = Lock()
        self._failing = False

    def append(self, block: DecisionBlock) -> None:
        rows = len(block)
        if rows > _SMALL:
            self._queue.append(block)
            return
        try:
            line: _Line | DecisionBlock = _Line(rows, encode_block(block))
        except Exception:
            line = block  # Whoever decides isn't to blame: the thread tells it.
        self._queue.append(line)

    @property
    def dropped(self) -> int:
        """Decisions that found the queue full, or that the disk didn't take."""
        return self._queue.dropped

    @property
    def pid(self) -> int:
        return self._queue.pid

    def sync(self) -> None:
        """`drain`, and through to the disk."""
        self.drain()
        with self._disk:
            self._file.sync()

    def rotate(self, age: float = 0.0) -> None:
        """Close the file that is being written if its first line is older than `age` seconds."""
        with self._disk:
            if self._file.age > age:
                self._file.close()

    def close(self) -> None:
        self._queue.close()
        with self._disk:
            self._file.close()

    def _write(self, blocks: list[_Line | DecisionBlock]) -> int:
        lost = 0
        lines = []
        for block in blocks:
            if isinstance(block, _Line):
                lines.append(block.text)
                continue
            try:
                lines.append(encode_block(block))
            except Exception:  # One block that can't be written must not stop those after it.
                logger.exception("a request's decisions can't be written")
                lost += len(block)
        try:
            with self._disk:
                self._file.write(b"".join(lines))
            self._failing = False
        except OSError as error:
            lost = sum(len(block) for block in blocks)
            if not self._failing:
                logger.error("decisions can't be written and are dropped: %s", error)
            self._failing = True
        return lost
