"""`around.degrade`: rows whose arm would answer too late are answered by a cheaper one."""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from time import perf_counter
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.around import Degrade
from lepton_plugins.routing.answer import Answer
from lepton_plugins.routing.answering import Answerer, ArmDegraded
from lepton_plugins.routing.arm_load import ArmLoad
from lepton_plugins.routing.counters import Counters
from lepton_plugins.routing.gate import Gate
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.routing.micro_batch import MOST
from lepton_plugins.routing.streaming import Cancellation, close

#: An arm whose rows take longer than this should not hold an event loop's thread, in seconds: nothing is read
#: meanwhile, and the cheaper arm's rows would wait behind it.
_LONG = 0.002


class Degrader:
    """Stands before an `Answerer`. What a policy chose stays chosen; another arm serves, for the cause `degraded`.

    `loads` are the arms', in their order. `objective` is the plan's p99 in seconds, `clock` that of every `since`.
    Of the `threads` that calls run in, where they are counted, a quarter stays for the cheaper arm.
    So many `processes` share the limits of calls: each has its part, at least one.
    Calls of `MOST` rows or more aren't answered together with others: for them only limits of calls count.
    """

    def __init__(
        self,
        answerer: Answerer,
        versions: Sequence[str],
        loads: Sequence[ArmLoad],
        spec: Degrade,
        objective: float | None,
        counters: Counters,
        threads: int | None = None,
        clock: Callable[[], float] = perf_counter,
        processes: int = 1,
    ) -> None:
        assert spec.to is not None  # A plan says which.
        self._answerer = answerer
        self._versions = tuple(versions)
        self.to = self._versions.index(spec.to)
        """The cheaper arm."""
        self._cheap = loads[self.to]
        self._gates = [
            Gate(load, spec, objective, _part(spec.concurrency.get(version), processes), self._cheap)
            for version, load in zip(versions, loads, strict=True)
        ]
        self._loads = tuple(loads)
        self._soon = spec.leave * objective if objective is not None else float("inf")
        self._counters = counters
        self._clock = clock
        self._room = threads * 3 // 4 if threads is not None else None
        self._dear = 0
        """Calls in other arms than the cheaper one."""
        self._lock = Lock()

    def one(self, arm: int, columns: Columns, since: float | None = None) -> tuple[NDArray[Any], int, str | None]:
        """As `Answerer.one`; `since` is when the request came, None: now."""
        served = arm if self.enters(arm, 1, since) else self.to
        try:
            values, other, cause = self._answerer.one(served, columns)
        finally:
            self.leaves(served, 1)
        return values, other, None if other == arm else cause or ArmDegraded.code

    def many(
        self, arms: NDArray[np.intp], columns: Columns, rows: int, apart: bool = False, since: float | None = None
    ) -> Answer:
        """As `Answerer.many`. Rows of one caller that go to one arm stay together."""
        placed, calls = self._placed(arms, rows, apart, since)
        try:
            answer = self._answerer.many(placed, columns, rows, apart)
        finally:
            for arm, number in calls:
                self.leaves(arm, number)
        if placed is arms:
            return answer
        causes: list[str | None] = list(answer.causes) if answer.causes is not None else [None] * rows
        for row in np.flatnonzero(placed != arms).tolist():
            causes[row] = None if answer.served[row] == arms[row] else causes[row] or ArmDegraded.code
        return Answer(answer.values, answer.served, causes)

    def stream(
        self, arm: int, columns: Columns, request: Mapping[str, Any] | None, cancelled: Cancellation
    ) -> tuple[Iterator[Any], int, str | None]:
        """As `Answerer.stream`; how long a stream takes says nothing of others, so only limits of calls count."""
        now = self._clock()
        with self._lock:
            served = arm if self._enters(arm, 1, 0.0, now, here=False, waits=False) else self.to
        try:
            parts, other, cause = self._answerer.stream(served, columns, request, cancelled)
        except BaseException:
            self.leaves(served, 0)
            raise
        leaving = _Leaving(parts, lambda: self.leaves(served, 0))
        return leaving, other, None if other == arm else cause or ArmDegraded.code

    @property
    def moving(self) -> tuple[str, ...]:
        """The versions whose rows go to the cheaper one now."""
        now = self._clock()
        return tuple(name for name, gate in zip(self._versions, self._gates, strict=True) if gate.moves(now))

    @property
    def slow(self) -> bool:
        """Whether a row of some arm takes long, as far as is known."""
        return any((gate.load.seconds_a_row or 0.0) > _LONG for gate in self._gates)

    def enters(self, arm: int, rows: int, since: float | None) -> bool:
        """Whether a call may go to its arm. Then it counts there, else at the cheaper one, until it `leaves`."""
        now = self._clock()
        waited = 0.0 if since is None else now - since
        load = self._loads[arm]
        each = load.seconds_a_row
        with self._lock:
            if not self._dear and rows == 1 and each is not None and waited + each <= self._soon:
                # What every gate says where nothing else is to do, without asking it.
                load.calls += 1
                load.rows += 1
                self._dear += arm != self.to
                return True
            return self._enters(arm, rows, waited, now, here=_get_running_loop() is not None)

    def leaves(self, arm: int, rows: int) -> None:
        """A call has ended where it was."""
        with self._lock:
            load = self._loads[arm]
            load.calls -= 1
            if rows and arm != self.to:
                self._dear -= 1
            if rows < MOST:
                load.rows -= rows

    def _enters(self, arm: int, rows: int, waited: float, now: float, *, here: bool, waits: bool = True) -> bool:
        counted = rows if waits and rows < MOST else 0
        gate = self._gates[arm]
        load = gate.load
        if arm == self.to:
            admitted = True
        elif waits and not here and self._room is not None and self._dear >= self._room:
            admitted = gate.refuse(now)
        else:
            admitted = gate.admits(counted, waited, now, here=here)
            self._dear += waits and admitted
        if not admitted:
            self._counters.degraded(self._versions[arm], rows)
            load = self._cheap
        load.calls += 1
        load.rows += counted
        return admitted

    def _placed(
        self, arms: NDArray[np.intp], rows: int, apart: bool, since: float | None
    ) -> tuple[NDArray[np.intp], list[tuple[int, int]]]:
        """Where each row goes: `arms` itself where all go where they were sent; and the calls that it makes."""
        now = self._clock()
        here = _get_running_loop() is not None
        waited = 0.0 if since is None else now - since
        calls: list[tuple[int, int]] = []
        placed = arms
        if apart:
            parts = [(arm, row, 1) for row, arm in enumerate(arms.tolist())]
        else:
            counts = np.bincount(arms, minlength=len(self._versions))
            parts = [(arm, -1, int(counts[arm])) for arm in np.flatnonzero(counts).tolist()]
        with self._lock:
            for arm, row, number in parts:
                if self._enters(arm, number, waited, now, here=here):
                    calls.append((arm, number))
                    continue
                calls.append((self.to, number))
                placed = arms.copy() if placed is arms else placed
                placed[row if row >= 0 else arms == arm] = self.to
        return placed, calls


def _part(most: int | None, processes: int) -> int | None:
    """One process's part of a limit that all keep together."""
    return None if most is None else max(most // processes, 1)


class _Leaving:
    """The parts of a stream; `leave` is called once, when they end, are closed or forgotten."""

    def __init__(self, parts: Iterator[Any], leave: Callable[[], None]) -> None:
        self._parts = parts
        self._leave = finalize(self, leave)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._parts)
        except BaseException:
            self._leave()
            raise

    def close(self) -> None:
        try:
            close(self._parts)
        finally:
            self._leave()
