"""Writing lines in a thread of its own: appending never waits for a disk."""

from __future__ import annotations

import logging
import os
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from time import sleep
from typing import IO
from uuid import uuid4

from lepton_files.lines import encode_block
from lepton_plugins.routing.store import DecisionBlock

logger = logging.getLogger("lepton_files")

#: How long decisions wait to be written together; one write for many costs the requests less.
_INTERVAL = 0.05

#: Lines made in one go.
_TURN = 50


class LineFile:
    """Appends lines to files `<kind>-<time>-<writer>.jsonl` in a directory, a new one when one is full.

    Each process writes files of its own, so that a torn line can only be a file's last one.
    """

    def __init__(self, directory: Path, kind: str, max_bytes: int) -> None:
        self._directory = directory
        self._kind = kind
        self._max_bytes = max_bytes
        self._stream: IO[bytes] | None = None
        self._written = 0

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
        self._stream = (self._directory / f"{self._kind}-{stamp}-{uuid4().hex[:8]}.jsonl").open("xb")
        self._written = 0
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class BlockWriter:
    """A bounded queue of blocks and the thread that writes them. `dropped` counts decisions that found it full."""

    def __init__(self, directory: Path, max_bytes: int, max_rows: int) -> None:
        self.dropped = 0
        self.pid = os.getpid()
        self._file = LineFile(directory, "decisions", max_bytes)
        self._max_rows = max_rows
        self._queue: deque[DecisionBlock] = deque()
        self._rows = 0
        self._changed = Condition()
        #: The disk's own lock: whoever appends waits for no disk.
        self._disk = Lock()
        self._busy = False
        self._closed = False
        self._failing = False
        self._wake = Event()
        self._thread: Thread | None = None

    def append(self, block: DecisionBlock) -> None:
        rows = len(block)
        with self._changed:
            # A block beyond the bound is taken where nothing else waits: it could never be written else.
            if self._closed or (self._queue and self._rows + rows > self._max_rows):
                self.dropped += rows
                return
            self._queue.append(block)
            self._rows += rows
            if self._thread is None:
                self._thread = Thread(target=self._work, name="lepton-decision-log", daemon=True)
                self._thread.start()

    def drain(self) -> None:
        """Until everything appended so far has been handed to the operating system."""
        with self._changed:
            if self._thread is None:
                return
            self._wake.set()
            while (self._queue or self._busy) and self._thread.is_alive():
                self._changed.wait(0.5)

    def sync(self) -> None:
        """`drain`, and through to the disk."""
        self.drain()
        with self._disk:
            self._file.sync()

    def close(self) -> None:
        with self._changed:
            self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with self._disk:
            self._file.close()

    def _work(self) -> None:
        while True:
            self._wake.wait(_INTERVAL)
            self._wake.clear()
            with self._changed:
                blocks = list(self._queue)
                self._queue.clear()
                self._busy = bool(blocks)
                done = self._closed and not blocks
            if blocks:
                self._write(blocks)
            with self._changed:
                self._busy = False
                self._rows -= sum(len(block) for block in blocks)
                self._changed.notify_all()
            if done:
                return

    def _write(self, blocks: list[DecisionBlock]) -> None:
        lost = 0
        lines = bytearray()
        for number, block in enumerate(blocks, start=1):
            if number % _TURN == 0:
                sleep(0)  # Else requests wait for the interpreter's lock until all lines are made.
            try:
                lines += encode_block(block)
            except Exception:  # One block that can't be written must not stop those after it.
                logger.exception("a request's decisions can't be written")
                lost += len(block)
        try:
            with self._disk:
                self._file.write(bytes(lines))
            self._failing = False
        except OSError as error:
            lost = sum(len(block) for block in blocks)
            if not self._failing:
                logger.error("decisions can't be written and are dropped: %s", error)
            self._failing = True
        if lost:
            with self._changed:
                self.dropped += lost
