"""Calls of arms, each under its time limit, its circuit breaker and its counts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, ModelFailed, OutputInvalid, RequestInvalid, is_away
from lepton_plugins.records.around import Breaker
from lepton_plugins.routing.breaker import ArmEjected, CircuitBreaker
from lepton_plugins.routing.counters import Counters
from lepton_plugins.routing.inputs import Columns, by_nulls, first_null
from lepton_plugins.routing.loaded_arm import LoadedArm, RunningArm, broken_rows, take
from lepton_plugins.routing.streaming import Cancellation
from lepton_plugins.routing.time_limit import TimeLimit

logger = logging.getLogger("lepton_plugins.routing")


class Part(NamedTuple):
    """One arm's rows (None: all of them) and its answer; `broken` rows have none, for the reason `error`."""

    arm: int
    rows: NDArray[np.intp] | None
    values: NDArray[Any] | None
    broken: NDArray[np.bool_] | None
    error: Exception | None


class ArmCalls:
    """Calls arms by their index; `timeout` in seconds. The `default` arm has no breaker: somebody has to answer."""

    def __init__(
        self,
        arms: Sequence[RunningArm],
        default: int,
        timeout: float | None,
        counters: Counters,
        breaker: Breaker | None,
    ) -> None:
        self._arms = tuple(arms)
        self._counters = counters
        self._limit = TimeLimit(timeout) if timeout is not None else None
        self._breakers = [
            CircuitBreaker(breaker.failures, breaker.wait) if breaker is not None and arm != default else None
            for arm in range(len(arms))
        ]

    def run(
        self,
        arm: int,
        index: NDArray[np.intp] | None,
        columns: Columns,
        rows: int,
        *,
        limit: bool = True,
        apart: bool = False,
    ) -> Part:
        """One call on `rows` rows, whose places in the request are `index` (None: all); never an exception.

        `limit` is whether the time limit counts. With `apart` rows that the model can't answer together are tried
        one by one.
        """
        runner = self._arms[arm]
        breaker = self._breakers[arm]
        if breaker is not None and breaker.until is not None and not breaker.admits():
            self._counters.failed(runner.version, ArmEjected.code, rows)
            return Part(arm, index, None, None, ArmEjected(runner.version))
        start = perf_counter()
        try:
            if self._limit is not None and limit:
                values = self._limit.call(runner, columns, rows)
            else:
                values = runner.predict(columns, rows)
            broken = broken_rows(values, rows)
        except Exception as error:
            if apart and rows > 1 and not is_away(error):
                # Rows of callers who have nothing to do with each other. One by one they would wait for one that is
                # away as often as there are rows.
                part = self._in_groups(arm, index, columns, rows, list(np.arange(rows)[:, None]))
                if part.error is None and isinstance(runner, LoadedArm):
                    runner.refused()
                return part
            groups = by_nulls(columns, rows) if columns and refused(error) else []
            if len(groups) > 1:
                return self._in_groups(arm, index, columns, rows, groups, limit)
            of_null = bool(groups) and first_null(columns, rows) is not None
            self._failed(runner.version, None if of_null else breaker, error, rows, of_null)
            return Part(arm, index, None, None, error)
        self._counters.ran(runner.version, rows, perf_counter() - start)
        if breaker is not None:
            breaker.succeeded()
        if broken is None:
            return Part(arm, index, values, None, None)
        number = int(broken.sum())
        without = OutputInvalid(runner.version, f"no finite answer for {number} of {rows} rows", "one for each row")
        self._counters.failed(runner.version, without.code, number)
        return Part(arm, index, values, broken, without)

    def parts(
        self, arm: int, columns: Columns, request: Mapping[str, Any] | None, cancelled: Cancellation
    ) -> Iterator[Any]:
        """An arm's parts; the breaker and the counters learn how they ended."""
        runner, breaker = self._arms[arm], self._breakers[arm]
        if breaker is not None and not breaker.admits():
            self._counters.failed(runner.version, ArmEjected.code, 1)
            raise ArmEjected(runner.version)
        start = perf_counter()
        try:
            yield from runner.stream(columns, request, cancelled)
        except Exception as error:
            if not cancelled.done:
                self._failed(runner.version, breaker, error, 1)
            raise
        self._counters.ran(runner.version, 1, perf_counter() - start)
        if breaker is not None:
            breaker.succeeded()

    @property
    def left_out(self) -> tuple[str, ...]:
        """The versions that aren't asked now, because they failed too often."""
        open_ = zip(self._arms, self._breakers, strict=True)
        return tuple(arm.version for arm, breaker in open_ if breaker is not None and breaker.until is not None)

    def close(self) -> None:
        if self._limit is not None:
            self._limit.close()

    def _in_groups(
        self,
        arm: int,
        index: NDArray[np.intp] | None,
        columns: Columns,
        rows: int,
        groups: Sequence[NDArray[np.intp]],
        limit: bool = True,
    ) -> Part:
        """A call for each group of rows, after one for all has failed: those of them that fail have no answer."""
        parts = [self.run(arm, None, take(columns, group), len(group), limit=limit) for group in groups]
        error = next((part.error for part in parts if part.error is not None), None)
        answered = [(group, part) for group, part in zip(groups, parts, strict=True) if part.values is not None]
        if not answered:
            return Part(arm, index, None, None, error)
        together = np.concatenate([part.values for _, part in answered if part.values is not None])
        values = np.zeros((rows, *together.shape[1:]), dtype=together.dtype)
        if values.dtype.kind in "fO":
            values.fill(np.nan if values.dtype.kind == "f" else None)
        broken = np.ones(rows, dtype=bool)
        values[np.concatenate([group for group, _ in answered])] = together
        for group, part in answered:
            broken[group] = False if part.broken is None else part.broken
        return Part(arm, index, values, broken if error is not None else None, error)

    def _failed(
        self, version: str, breaker: CircuitBreaker | None, error: Exception, rows: int, of_null: bool = False
    ) -> None:
        self._counters.failed(version, error_code(error), rows)
        if not isinstance(error, RequestInvalid) and not of_null:
            logger.warning("version %s failed to answer: %s", version, error, exc_info=not is_away(error))
            if breaker is not None:
                breaker.failed()


def refused(error: Exception | None) -> bool:
    """Whether rows that hold a null may have none of an arm's answers for that reason.

    Models of some frameworks answer NaN, others raise: scikit-learn ValueError. With a null such a failure is the
    rows' and counts for no circuit breaker.
    """
    return isinstance(error, OutputInvalid | ValueError | TypeError)


def error_code(error: Exception | None) -> str:
    """The stable code of an error; a model's own exceptions are all `model_failed`."""
    return error.code if isinstance(error, LeptonError) else ModelFailed.code
