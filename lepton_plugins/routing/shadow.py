"""Shadows: versions that answer the same rows off the critical path; their answers are compared and discarded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from queue import Empty, Full, Queue
from threading import Event, Thread
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.output import OutputKind
from lepton_plugins.routing.counters import Counters
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.routing.loaded_arm import RunningArm

logger = logging.getLogger("lepton_plugins.routing")

#: Batches that may wait for the shadows.
QUEUE = 256

#: Values and scores agree within one part in a hundred.
TOLERANCE = 0.01

_Item = tuple[Columns, int, NDArray[Any]]


class Shadows:
    """Runs shadow arms in one thread of its own behind a bounded queue; what doesn't fit is dropped and counted."""

    def __init__(self, arms: Sequence[RunningArm], output: OutputKind, counters: Counters, queue: int = QUEUE) -> None:
        self._arms = tuple(arms)
        self._output = output
        self._counters = counters
        self._queue: Queue[_Item] = Queue(queue)
        self._stop = Event()
        self._thread = Thread(target=self._work, name="lepton-shadows", daemon=True)
        self._thread.start()

    def offer(self, columns: Columns, rows: int, values: NDArray[Any]) -> bool:
        """Queue a batch with the answer that was given; False where it was dropped. Returns at once."""
        try:
            self._queue.put_nowait((columns, rows, values))
        except Full:
            return self.drop()
        return True

    def drop(self) -> bool:
        """Count a batch that isn't queued."""
        for arm in self._arms:
            self._counters.shadowed(arm.version, dropped=1)
        return False

    def wait(self) -> None:
        """Until everything queued so far has been compared."""
        self._queue.join()

    def close(self) -> None:
        """Stop; what still waits is dropped."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                columns, rows, values = self._queue.get(timeout=0.2)
            except Empty:
                continue
            for arm in self._arms:
                self._compare(arm, columns, rows, values)
            self._queue.task_done()

    def _compare(self, arm: RunningArm, columns: Columns, rows: int, values: NDArray[Any]) -> None:
        start = perf_counter()
        try:
            shadow = arm.predict(columns, rows)
            agreed = agreement(values, shadow, self._output)
            apart = difference(values, shadow, self._output)
        except Exception:
            logger.warning("shadow version %s failed", arm.version, exc_info=True)
            self._counters.shadowed(arm.version, failed=1)
            return
        self._counters.ran(arm.version, rows, perf_counter() - start)
        self._counters.shadowed(arm.version, compared=rows, agreed=int(agreed.sum()), difference=apart)


def agreement(values: NDArray[Any], shadow: NDArray[Any], output: OutputKind) -> NDArray[np.bool_]:
    """Rows (rows,) where both say the same: the same label or likeliest class, or numbers within TOLERANCE."""
    if output == "proba":
        return np.asarray(np.argmax(values, axis=1) == np.argmax(shadow, axis=1))
    if output == "label":
        return np.asarray(np.asarray(values, dtype=object) == np.asarray(shadow, dtype=object), dtype=bool)
    close: NDArray[np.bool_] = np.isclose(values, shadow, rtol=TOLERANCE, atol=1e-9, equal_nan=True)
    return np.asarray(close.all(axis=1)) if close.ndim == 2 else close


def difference(values: NDArray[Any], shadow: NDArray[Any], output: OutputKind) -> float:
    """How far apart both are, summed over rows: labels that differ, half of Σ|p - q|, or the mean |a - b| of targets.

    Where one of both is no number the row isn't counted.
    """
    if output == "label":
        return float((~agreement(values, shadow, output)).sum())
    apart = np.abs(np.asarray(values, np.float64) - np.asarray(shadow, np.float64))
    if apart.ndim == 2:
        apart = apart.sum(axis=1) / (2 if output == "proba" else apart.shape[1])
    return float(np.nansum(apart))
