"""Running the chosen arms: each once on its rows, the fallback where one fails, results in the rows' order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import (
    LeptonError,
    NoVersionAnswered,
    NullUnanswered,
    OutputInvalid,
    RequestInvalid,
    is_away,
)
from lepton_plugins.records.around import Breaker
from lepton_plugins.routing.answer import Answer, assemble
from lepton_plugins.routing.arm_calls import ArmCalls, Part, error_code, refused
from lepton_plugins.routing.counters import Counters
from lepton_plugins.routing.inputs import Columns, first_null, null_rows
from lepton_plugins.routing.loaded_arm import RunningArm, broken_rows, take
from lepton_plugins.routing.policy import Consulted, SelectionPolicy
from lepton_plugins.routing.streaming import Cancellation, begun

logger = logging.getLogger("lepton_plugins.routing")


class Front(Protocol):
    """Who answers for a plan's arms. `since` is when a request came, by `time.perf_counter`, where that matters."""

    def one(self, arm: int, columns: Columns, since: float | None = None) -> tuple[NDArray[Any], int, str | None]: ...

    def many(
        self, arms: NDArray[np.intp], columns: Columns, rows: int, apart: bool = False, since: float | None = None
    ) -> Answer: ...

    def stream(
        self, arm: int, columns: Columns, request: Mapping[str, Any] | None, cancelled: Cancellation
    ) -> tuple[Iterator[Any], int, str | None]: ...


class Door(Protocol):
    """Who says whether an arm may be asked now."""

    to: int
    """The arm that answers where others may not."""

    def enters(self, arm: int, rows: int, since: float | None) -> bool: ...

    def leaves(self, arm: int, rows: int) -> None: ...


class Answerer:
    """Runs arms. `fallback` and `default` are indices into `arms`; `timeout` in seconds."""

    def __init__(
        self,
        arms: Sequence[RunningArm],
        fallback: int,
        default: int,
        timeout: float | None,
        counters: Counters,
        breaker: Breaker | None = None,
    ) -> None:
        self._arms = tuple(arms)
        self._fallback = fallback
        self._default = default
        self._counters = counters
        self._calls = ArmCalls(arms, default, timeout, counters, breaker)

    def one(self, arm: int, columns: Columns, since: float | None = None) -> tuple[NDArray[Any], int, str | None]:
        """One row: its answer, the arm that gave it, and the cause where that isn't `arm`."""
        part = self._calls.run(arm, None, columns, 1)
        if part.error is None and part.values is not None:
            return part.values, arm, None
        served, values = self._fall_back(part, columns, 1)
        return values, int(served[0]), error_code(part.error)

    def many(
        self, arms: NDArray[np.intp], columns: Columns, rows: int, apart: bool = False, since: float | None = None
    ) -> Answer:
        """All rows; ModelFailed, or the request's own error, where the fallback fails too.

        With `apart` rows that a model can't answer together are tried one by one.
        """
        counts = np.bincount(arms, minlength=len(self._arms))
        used = np.flatnonzero(counts).tolist()
        if len(used) == 1:
            parts = [self._calls.run(used[0], None, columns, rows, apart=apart)]
        else:
            # Stable, so that each arm sees its rows in their order.
            order = np.argsort(arms, kind="stable")
            ends = np.cumsum(counts)
            chunks = [(arm, order[ends[arm] - counts[arm] : ends[arm]]) for arm in used]
            parts = [
                self._calls.run(arm, index, take(columns, index), len(index), apart=apart) for arm, index in chunks
            ]
        if all(part.error is None for part in parts):
            return Answer(assemble(parts, rows), arms, None)
        return self._repaired(parts, arms, columns, rows)

    def consult(
        self,
        policy: SelectionPolicy,
        columns: Columns,
        rows: int,
        door: Door | None = None,
        since: float | None = None,
    ) -> tuple[Answer, Consulted | None]:
        """All rows as a policy makes their answers of several arms'; None where no arm that it asked could answer.

        Then, and for single rows that stay without an answer, the fallback answers. An arm that the `door` keeps
        shut counts as one that failed.
        """
        failed: dict[int, Part] = {}

        def run(arm: int, index: NDArray[np.intp] | None) -> NDArray[Any] | None:
            number = rows if index is None else len(index)
            if door is not None and not door.enters(arm, number, since):
                door.leaves(door.to, number)
                failed[arm] = Part(arm, index, None, None, ArmDegraded(self._arms[arm].version, door.to))
                return None
            try:
                part = self._calls.run(arm, index, columns if index is None else take(columns, index), number)
            finally:
                if door is not None:
                    door.leaves(arm, number)
            if part.error is not None:
                failed[arm] = part
                # Labels can't say which rows have none.
                if part.values is not None and part.values.dtype.kind not in "fO":
                    return None
            return part.values

        made = policy.consult(rows, run)
        if made is None:
            part = next(iter(failed.values()))
            others, values = self._fall_back(part, columns, rows)
            return Answer(values, others, [error_code(part.error)] * rows), None
        values, served = made.values, made.served
        causes = [None if arm < 0 else error_code(failed[arm].error) for arm in made.failed.tolist()]
        broken = broken_rows(values, rows)
        if broken is not None:
            index = np.flatnonzero(broken)
            part = failed[int(made.failed[index[0]])]
            others, repaired = self._fall_back(part, take(columns, index), len(index), index)
            values, served = values.copy(), served.copy()
            values[index], served[index] = repaired, others
        self._counters.add(fallback=int((made.failed >= 0).sum()) - (0 if broken is None else int(broken.sum())))
        return Answer(values, served, causes if failed else None), made

    def stream(
        self, arm: int, columns: Columns, request: Mapping[str, Any] | None, cancelled: Cancellation
    ) -> tuple[Iterator[Any], int, str | None]:
        """One row's answer in parts, the arm that gives it, and the cause where that isn't `arm`.

        Another arm is asked only as long as no part has come.
        """
        failed: list[tuple[int, Exception]] = []
        for other in dict.fromkeys((arm, self._fallback, self._default)):
            try:
                parts = begun(self._calls.parts(other, columns, request, cancelled))
                if parts is None:
                    raise OutputInvalid(self._arms[other].version, "no part of an answer", "at least one")
            except Exception as error:
                if cancelled.done:
                    raise
                failed.append((other, error))
                continue
            if failed:
                self._counters.add(fallback=1)
            return parts, other, error_code(failed[0][1]) if failed else None
        raise self._nobody(failed)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The versions that aren't asked now, because they failed too often."""
        return self._calls.left_out

    def close(self) -> None:
        self._calls.close()

    # --- inside ----------------------------------------------------------------------------

    def _fall_back(
        self, part: Part, columns: Columns, rows: int, numbers: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Other arms' answers for the same rows, without a time limit: somebody has to answer.

        Who gives them, shape (rows,): each row's is the first that there is. `numbers` are the rows' own in the
        request (None: all of it).
        """
        tried: list[Part] = []
        answers: list[Part] = []
        left = np.arange(rows)
        first = (part.error.to,) if isinstance(part.error, ArmDegraded) else ()
        # The default last: it is never left out.
        for other in dict.fromkeys((*first, self._fallback, self._default)):
            if other == part.arm:
                continue
            rest = columns if len(left) == rows else take(columns, left)
            second = self._calls.run(other, None, rest, len(left), limit=False)
            if second.error is None:
                answers.append(second._replace(rows=left))
                self._counters.add(fallback=rows)
                served = np.empty(rows, dtype=np.intp)
                for answer in answers:
                    served[answer.rows] = answer.arm
                return served, assemble(answers, rows)
            tried.append(second)
            if second.values is not None and second.broken is not None:
                good = ~second.broken
                if good.any():
                    answers.append(Part(other, left[good], second.values[good], None, None))
                    left = left[second.broken]
        # Where the first one failed, the answers of those that take over tell whether a null is the reason.
        if all(refused(failed.error) for failed in tried or (part,)):
            rest = take(columns, left)
            null = first_null(rest, len(left))
            if null is not None:
                nulls = np.any(list(null_rows(rest, len(left)).values()), axis=0)
                nulls[null[0]] = False
                own = left if numbers is None else numbers[left]
                asked = [self._arms[failed.arm].version for failed in (part, *tried)]
                raise NullUnanswered(null[1], [int(own[null[0]]), *own[nulls].tolist()], asked)
        for told in (RequestInvalid, OutputInvalid):  # The rows' fault, not the versions'.
            if tried and isinstance(part.error, told) and all(isinstance(second.error, told) for second in tried):
                raise tried[-1].error  # type: ignore[misc]
        if not tried and isinstance(part.error, OutputInvalid):
            raise part.error
        raise self._nobody([(failed.arm, failed.error) for failed in (part, *tried) if failed.error is not None])

    def _nobody(self, failed: Sequence[tuple[int, Exception]]) -> Exception:
        """What the caller is told where no version answered, by the arms in the order in which they were asked."""
        error = failed[0][1]
        if isinstance(error, RequestInvalid):
            return error
        reference = uuid4().hex[:12]
        logger.error("no version answered (%s): %s", reference, error, exc_info=None if is_away(error) else error)
        statuses = {error.http_status if isinstance(error, LeptonError) else 500 for _, error in failed}
        asked = [(self._arms[arm].version, error_code(error)) for arm, error in failed]
        away = all(is_away(error) for _, error in failed)
        later = [error.retry_after for _, error in failed if isinstance(error, LeptonError) and error.retry_after]
        told = NoVersionAnswered(asked, min(statuses) if away else None, reference, min(later, default=None))
        told.__suppress_context__ = True
        return told

    def _repaired(self, parts: list[Part], arms: NDArray[np.intp], columns: Columns, rows: int) -> Answer:
        served = arms.copy()
        causes: list[str | None] = [None] * rows
        whole: list[Part] = []
        lost: list[NullUnanswered] = []
        for part in parts:
            index = part.rows if part.rows is not None else np.arange(rows)
            if part.error is None:
                whole.append(part._replace(rows=index))
                continue
            failed = index
            if part.broken is not None and part.values is not None:
                failed = index[part.broken]
                good = ~part.broken
                if good.any():
                    whole.append(Part(part.arm, index[good], part.values[good], None, None))
            try:
                others, values = self._fall_back(part, take(columns, failed), len(failed), failed)
            except NullUnanswered as error:
                lost.append(error)
                continue
            whole.append(Part(part.arm, failed, values, None, None))
            served[failed] = others
            code = error_code(part.error)
            for row in failed.tolist():
                causes[row] = code
        if lost:
            first = min(lost, key=lambda error: error.rows[0])
            more = [row for error in lost if error is not first for row in error.rows]
            raise NullUnanswered(first.inputs, [*first.rows, *more], first.versions)
        return Answer(assemble(whole, rows), served, causes)


class ArmDegraded(LeptonError):
    """A version that would answer too late for now (`around.degrade`); arm `to` answers."""

    code = "degraded"
    http_status = 503

    def __init__(self, version: str, to: int) -> None:
        super().__init__(f"Version {version} has too much to do to answer in time; a cheaper one answers.")
        self.to = to
