"""Numbers by name in a piece of memory that the workers of a server can share.

Each worker has a file of its own, mapped into memory: counting costs no call of the system, others read it
at any time, and who takes a dead worker's place goes on where it stopped.

Layout, in cells of eight bytes: cell 0 holds the number of cells in use; then entry by entry a value
(float64), the length of its key in bytes, and the key (JSON) up to a whole cell.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import msgspec

Key = tuple[str, ...]

#: Room for some hundred thousand numbers. Pages that nobody touches take no memory.
_SIZE = 16 << 20

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Key)


class Counts:
    """Counters and gauges of one process. The first word of a key is its family; `gauges` are families that
    say how things stand now: they begin at zero, where counters go on.
    """

    def __init__(self, file: Path | None = None, gauges: frozenset[str] = frozenset()) -> None:
        if file is None:
            self._map = mmap.mmap(-1, _SIZE)
        else:
            with file.open("a+b") as stream:
                stream.truncate(_SIZE)
                self._map = mmap.mmap(stream.fileno(), _SIZE)
        self._used = memoryview(self._map).cast("Q")
        self._values = memoryview(self._map).cast("d")
        self._lock = Lock()
        if self._used[0] == 0:
            self._used[0] = 1
        self._cells = dict(_entries(self._map))
        for key, cell in self._cells.items():
            if key[0] in gauges:
                self._values[cell] = 0.0

    def add(self, key: Key, number: float = 1) -> None:
        """Count; by one thread at a time for each key."""
        cell = self._cells.get(key)
        self._values[self._new(key) if cell is None else cell] += number

    def set(self, key: Key, value: float) -> None:
        cell = self._cells.get(key)
        self._values[self._new(key) if cell is None else cell] = value

    def read(self) -> dict[Key, float]:
        return {key: self._values[cell] for key, cell in list(self._cells.items())}

    def _new(self, key: Key) -> int:
        with self._lock:
            known = self._cells.get(key)
            if known is not None:
                return known
            name = _ENCODER.encode(key)
            cell = self._used[0]
            end = cell + 2 + (len(name) + 7) // 8
            if end > _SIZE // 8:
                # Full: what comes now is counted where nobody looks.
                return cell
            self._used[cell + 1] = len(name)
            self._map[8 * (cell + 2) : 8 * (cell + 2) + len(name)] = name
            self._used[0] = end  # Last: a reader sees the entry whole or not at all.
            self._cells[key] = cell
            return cell


def read_counts(file: Path) -> dict[Key, float]:
    """What another process has counted so far."""
    with file.open("rb") as stream:
        try:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # Empty: it is just being made.
            return {}
    with content:
        values = memoryview(content).cast("d")
        counted = {key: values[cell] for key, cell in _entries(content)}
        values.release()
    return counted


def _entries(content: mmap.mmap) -> Iterator[tuple[Key, int]]:
    cell = 1
    with memoryview(content).cast("Q") as numbers:
        while cell < numbers[0]:
            length = numbers[cell + 1]
            start = 8 * (cell + 2)
            yield _DECODER.decode(content[start : start + length]), cell
            cell += 2 + (length + 7) // 8
