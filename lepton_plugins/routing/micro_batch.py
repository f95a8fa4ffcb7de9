"""Micro-batching: calls of one version that come while it is busy are answered together by the next call.

There is no window to wait for: an idle version answers at once, and what has come during one call makes up
the next. Where an objective bounds the time of a call, the number of rows adapts to it: one more while
calls keep within it, a tenth less when one doesn't (Crankshaw et al., Clipper, NSDI 2017, section 4.3.1).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock, local
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import is_away
from lepton_plugins.routing.arm_queue import ArmQueue
from lepton_plugins.routing.inputs import Columns

#: Rows that are answered together at most; a call with more of its own stays alone.
MOST = 64

#: A model that fails with so many batches in a row, and with none of their calls alone, takes no batches.
_REFUSALS = 3

logger = logging.getLogger("lepton_plugins.routing")

_this_thread = local()

Predict = Callable[[Columns, int], NDArray[Any]]


class _Ticket:
    """A call that waits: for its answer, or to be the one that answers a batch."""

    __slots__ = ("batch", "columns", "error", "rows", "turn", "values")

    def __init__(self, columns: Columns, rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self.values: NDArray[Any] | None = None
        self.error: BaseException | None = None
        self.batch: list[_Ticket] | None = None
        self.turn = Lock()
        self.turn.acquire()

    @property
    def kind(self) -> tuple[object, ...]:
        """Calls of one kind can stand in one array."""
        return tuple((name, column.dtype, column.shape[1:]) for name, column in self.columns.items())


class MicroBatches:
    """Answers calls from any number of threads, `parallel` at a time; those beyond wait and are merged.

    `objective` is how long a caller may wait in seconds, for the call that runs and for its own.
    """

    def __init__(self, predict: Predict, parallel: int, objective: float | None = None, most: int = MOST) -> None:
        self._predict = predict
        self._bound = objective / 2 if objective is not None else None
        self._most = most
        self._allowed = float(most)
        self._lock = Lock()
        self._refused = 0
        self._queue: ArmQueue[_Ticket] = ArmQueue(parallel)

    @property
    def room(self) -> int:
        """How many rows are answered together at most, as things stand."""
        return int(self._allowed)

    def predict(self, columns: Columns, rows: int) -> NDArray[Any]:
        """The answer for these rows; what the model raises for them, and for no others."""
        if rows > self._most:
            return self._predict(columns, rows)
        ticket = _Ticket(columns, rows)
        with self._lock:
            self._queue.add(ticket, rows)
            if self._queue.starts:
                self._next().turn.release()
        ticket.turn.acquire()
        if ticket.batch is None:
            _this_thread.merged = True
        else:
            self._answer(ticket.batch)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.values is not None
        return ticket.values

    def refused(self) -> None:
        """Rows of different callers came as one call, which failed; each was answered alone."""
        with self._lock:
            self._refused += 1
            if self._refused >= _REFUSALS:
                self._allowed = 1.0

    def _next(self) -> _Ticket:
        """Make a batch of calls that wait; the first of them answers it."""
        batch = self._queue.next(self._allowed, lambda ticket: ticket.kind)
        batch[0].batch = batch
        return batch[0]

    def _answer(self, batch: list[_Ticket]) -> None:
        """All calls of a batch by one call of the model; if that fails, each by its own."""
        rows = sum(ticket.rows for ticket in batch)
        start = perf_counter()
        try:
            if len(batch) > 1:
                self._answer_together(batch)
                self._refused = 0
        except Exception as error:
            if is_away(error):  # One by one they would wait for it as often as there are calls.
                for ticket in batch:
                    ticket.error = error
            else:
                logger.debug("a batch of %d calls failed and is answered one by one", len(batch), exc_info=True)
                self._refused += 1
        try:
            for ticket in batch:
                if ticket.values is None and ticket.error is None:
                    self._answer_alone(ticket)
        finally:
            with self._lock:
                self._adapt(rows, perf_counter() - start)
                self._queue.ended(rows)
                if self._queue.starts:
                    self._next().turn.release()
            for ticket in batch[1:]:
                ticket.turn.release()

    def _answer_alone(self, ticket: _Ticket) -> None:
        try:
            ticket.values = self._predict(ticket.columns, ticket.rows)
        except BaseException as error:
            ticket.error = error
            if ticket.rows > 1:
                return
        else:
            if ticket.rows == 1:
                return
        # It takes several rows. Or something is wrong with a single one, which is told to its caller: the reason why
        # others failed with it.
        self._refused = 0

    def _answer_together(self, batch: list[_Ticket]) -> None:
        names = batch[0].columns
        columns = {name: np.concatenate([ticket.columns[name] for ticket in batch]) for name in names}
        rows = sum(ticket.rows for ticket in batch)
        values = self._predict(columns, rows)
        end = 0
        for ticket in batch:
            start, end = end, end + ticket.rows
            ticket.values = values[start:end]

    def _adapt(self, rows: int, seconds: float) -> None:
        if self._refused >= _REFUSALS:
            self._allowed = 1.0
        elif self._bound is not None and seconds > self._bound:
            self._allowed = max(1.0, min(self._allowed, rows) * 0.9)
        elif self._bound is not None and rows >= int(self._allowed) < self._most:
            self._allowed += 1.0


def was_merged() -> bool:
    """Whether this thread has waited for others' calls since it last asked: then its time says little."""
    merged: bool = getattr(_this_thread, "merged", False)
    _this_thread.merged = False
    return merged
