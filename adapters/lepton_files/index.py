"""Where each decision of a log is, and which have had feedback: kept up by reading what files have grown."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import msgspec

from lepton_files.lines import HEADS, LINES, BlockLine, decode_block
from lepton_plugins.records.decision import Decision

#: How far back the first look goes; older decisions are unknown to feedback.
RECENT_BYTES = 256 * 2**20

#: Requests and feedback that are remembered; the oldest go first.
REMEMBERED = 500_000


class _Place(NamedTuple):
    file: Path
    offset: int
    rows: int


class DecisionIndex:
    """Not thread-safe: its owner holds a lock. Files of other processes in the directory count too."""

    def __init__(self, directory: Path, recent_bytes: int = RECENT_BYTES, remembered: int = REMEMBERED) -> None:
        self._directory = directory
        self._recent_bytes = recent_bytes
        self._remembered = remembered
        self._requests: OrderedDict[str, _Place] = OrderedDict()
        self._given: OrderedDict[str, None] = OrderedDict()
        self._read: dict[Path, int] | None = None

    def catch_up(self) -> None:
        """Read what was added to the files since the last time."""
        files = sorted(self._directory.glob("*-*.jsonl"), key=lambda file: file.name.partition("-")[2])
        if self._read is None:
            self._read = {}
            left = self._recent_bytes
            for file in reversed(files):
                size = file.stat().st_size
                if left <= 0:
                    self._read[file] = size
                left -= size
        for file in files:
            if file.stat().st_size > self._read.get(file, 0):
                self._scan(file, self._read.get(file, 0))

    def find(self, decision: str) -> Decision | None:
        """The decision of this id; None if it isn't known."""
        request, _, row = decision.rpartition("/")
        place = self._requests.get(request)
        if place is None or not row.isascii() or not row.isdigit() or int(row) >= place.rows:
            return None
        try:
            with place.file.open("rb") as stream:
                stream.seek(place.offset)
                line = LINES.decode(stream.readline())
        except (OSError, msgspec.DecodeError):
            return None  # Cleared away since it was seen.
        return decode_block(line).row(int(row)) if isinstance(line, BlockLine) else None

    def has_feedback(self, decision: str) -> bool:
        return decision in self._given

    def _scan(self, file: Path, offset: int) -> None:
        assert self._read is not None
        with file.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # Still being written, or torn.
                try:
                    head = HEADS.decode(line)
                except msgspec.DecodeError:
                    head = None
                if head is not None and head.kind == "decisions":
                    self._requests[head.request] = _Place(file, offset, head.rows)
                elif head is not None and head.kind == "feedback":
                    self._given[head.decision] = None
                offset += len(line)
        self._read[file] = offset
        while len(self._requests) > self._remembered:
            self._requests.popitem(last=False)
        while len(self._given) > self._remembered:
            self._given.popitem(last=False)
