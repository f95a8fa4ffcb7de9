"""The decision log that `--decisions parquet:DIR` opens."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from time import time
from typing import Any

from lepton_files.jsonl import JsonLinesDecisionLog
from lepton_files.parquet import parquet_module, seal
from lepton_files.place import Place, expire
from lepton_files.sealing import seal_apart

logger = logging.getLogger("lepton_files")

#: Lines become Parquet at this size, …
MAX_BYTES = 32 * 2**20
#: … or this many seconds after the first of them.
MAX_AGE = 300.0


class ParquetDecisionLog(JsonLinesDecisionLog):
    """As `JsonLinesDecisionLog`; files of decisions become Parquet when they are complete, feedback stays in lines.

    `parquet:///var/log/lepton?max_bytes=33554432&max_age=5min&keep=30d`. What a process that died has left behind
    is turned into Parquet by the next one, once it is old enough to be nobody's.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        max_bytes: int | None = None,
        max_rows: int | None = None,
        keep: float | None = None,
        max_age: float | None = None,
    ) -> None:
        parquet_module()
        place = Place.of(directory)
        self._max_age = max_age or place.max_age or MAX_AGE
        super().__init__(directory, max_bytes=max_bytes or place.max_bytes or MAX_BYTES, max_rows=max_rows, keep=keep)

    def _start(self) -> None:
        super()._start()
        self._ending = Event()
        self._sealing = Thread(
            target=_work, args=(weakref.ref(self), self._ending, self._max_age), name="lepton-parquet", daemon=True
        )
        self._sealing.start()

    def _completed(self) -> Callable[[Path], None]:
        self._complete: SimpleQueue[Path] = SimpleQueue()
        return self._complete.put

    def turn(self) -> None:
        """Close lines that are old enough, make Parquet of what is complete, remove what is too old."""
        self._writer.rotate(self._max_age)
        self._seal(seal_apart)
        abandoned = time() - 2 * self._max_age - 60
        for file in sorted(self.directory.glob("decisions-*.jsonl")):
            try:
                if file.stat().st_mtime < abandoned:
                    seal_apart(file)
            except OSError:
                continue  # Another process was faster.
        expire(self.directory, self._keep)

    def close(self) -> None:
        super().close()
        self._ending.set()
        self._sealing.join()
        self._seal(seal)  # Nobody waits for the interpreter any more.

    def _seal(self, sealed: Callable[[Path], object]) -> None:
        while not self._complete.empty():
            file = self._complete.get()
            try:
                sealed(file)
            except Exception:  # The lines stay, and stay readable.
                logger.exception("%s can't be turned into Parquet", file.name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.directory), self._max_bytes, self._max_rows, self._keep, self._max_age)


def _work(log: weakref.ref[ParquetDecisionLog], ending: Event, max_age: float) -> None:
    while not ending.wait(min(max_age / 4, 10.0)):
        held = log()
        if held is None:
            return
        try:
            held.turn()
        except Exception:
            logger.exception("the decision log in %s", held.directory)
        del held


def _reopen(directory: str, max_bytes: int, max_rows: int, keep: float | None, max_age: float) -> ParquetDecisionLog:
    return ParquetDecisionLog(directory, max_bytes=max_bytes, max_rows=max_rows, keep=keep, max_age=max_age)
