"""Where each decision of a log is, and which have had feedback: kept up by reading what files have grown."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lepton_files.columns import blocks_of
from lepton_files.parquet import read_group, requests_of
from lepton_files.place import log_files
from lepton_plugins.records.decision import Decision
from lepton_plugins.routing.decision_lines import HEADS, LINES, BlockLine, decode_block
from lepton_plugins.routing.store import DecisionBlock

#: How far back the first look goes; older decisions are unknown to feedback.
RECENT_BYTES = 256 * 2**20

#: Requests and feedback that are remembered; the oldest go first.
REMEMBERED = 500_000


class _Place(NamedTuple):
    """Where a request's decisions are: at a byte of a file of lines, or a row of a row group of Parquet."""

    file: Path
    offset: int
    rows: int
    group: int = -1


class DecisionIndex:
    """Not thread-safe: its owner holds a lock. Files of other processes in the directory count too."""

    def __init__(self, directory: Path, recent_bytes: int = RECENT_BYTES, remembered: int = REMEMBERED) -> None:
        self._directory = directory
        self._recent_bytes = recent_bytes
        self._remembered = remembered
        self._requests: OrderedDict[str, _Place] = OrderedDict()
        self._given: OrderedDict[str, None] = OrderedDict()
        self._read: dict[Path, int] | None = None
        #: The block and the row group that were read last.
        self._block: tuple[_Place, DecisionBlock | None] | None = None
        self._group: tuple[tuple[Path, int], Any] | None = None

    def catch_up(self) -> None:
        """Read what was added to the files since the last time."""
        while self._look():
            pass  # A file became Parquet between being listed and being read: what it held is there now.

    def _look(self) -> bool:
        """One look at all files; whether one has gone meanwhile."""
        gone = False
        found = log_files(self._directory, "decisions") + log_files(self._directory, "feedback")
        sizes = {file: _size(file) for file in sorted(found, key=lambda file: file.name.partition("-")[2])}
        if self._read is None:
            self._read = {}
            left = self._recent_bytes
            for file, size in reversed(sizes.items()):
                if left <= 0:
                    self._read[file] = size
                left -= size
        for file, size in sizes.items():
            if size > self._read.get(file, 0):
                try:
                    (self._scan_parquet if file.suffix == ".parquet" else self._scan)(file, self._read.get(file, 0))
                except FileNotFoundError:
                    gone = True
            elif size == 0 and not file.exists():
                gone = True
        return gone

    def find(self, decision: str) -> Decision | None:
        """The decision of this id; None if it isn't known."""
        request, _, row = decision.rpartition("/")
        place = self._requests.get(request)
        if place is None or not row.isascii() or not row.isdigit() or int(row) >= place.rows:
            return None
        if self._block is None or self._block[0] != place:
            # Feedback often comes for many decisions of a request: it is read once.
            try:
                self._block = place, self._read_block(place)
            except FileNotFoundError:  # Removed, or made Parquet a moment ago.
                self.catch_up()
                if self._requests.get(request, place) == place:
                    return None
                return self.find(decision)
        block = self._block[1]
        return block.row(int(row)) if block is not None and block.request == request else None

    def _read_block(self, place: _Place) -> DecisionBlock | None:
        if place.group >= 0:
            key = place.file, place.group
            if self._group is None or self._group[0] != key:
                self._group = key, read_group(*key)
            (block,) = blocks_of(self._group[1].slice(place.offset, place.rows))
            return block
        with place.file.open("rb") as stream:
            stream.seek(place.offset)
            try:
                line = LINES.decode(stream.readline())
            except msgspec.DecodeError:
                return None
        return decode_block(line) if isinstance(line, BlockLine) else None

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
        self._forget()

    def _scan_parquet(self, file: Path, _: int) -> None:
        assert self._read is not None
        for group, requests in enumerate(requests_of(file)):
            starts = [index for index, row in enumerate(requests["row"]) if row == 0]
            for start, end in zip(starts, [*starts[1:], len(requests["row"])], strict=True):
                self._requests[requests["request"][start]] = _Place(file, start, end - start, group)
        self._read[file] = _size(file)
        self._forget()

    def _forget(self) -> None:
        while len(self._requests) > self._remembered:
            self._requests.popitem(last=False)
        while len(self._given) > self._remembered:
            self._given.popitem(last=False)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
