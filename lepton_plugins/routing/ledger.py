"""Decisions that may still be rewarded: each by its id, until its time is up, and given out once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from time import time
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.routing.store import DecisionBlock, plain

#: How long a reward may come after its decision, in seconds, and how many decisions wait for theirs.
TTL, MAX_ROWS = 7 * 86_400.0, 250_000


class Rewardable(NamedTuple):
    """What learning needs of a decision. `version` is None where it was forced or another arm answered."""

    version: str | None
    context: Mapping[str, Any]
    propensity: float
    time: float
    output: Any = None
    """The row of the answer, as in `records.output`; None where it isn't known any more."""


class Claim(NamedTuple):
    """A decision's first reward, a later one, or one for a decision that isn't known (any more)."""

    kind: Literal["first", "again", "unknown"]
    decision: Rewardable | None = None


UNKNOWN, AGAIN = Claim("unknown"), Claim("again")


class Ledger(Protocol):
    """Thread-safe."""

    shared: bool
    """Whether it knows the decisions of all replicas; else a decision log may know those of others."""

    def remember(self, block: DecisionBlock, values: NDArray[Any] | None) -> None:
        """Keep a request's decisions and the answers that were given. Returns at once."""
        ...

    def claim(self, decisions: Sequence[str]) -> list[Claim]:
        """What is known of each decision; one that is first is given out, and from then on `again`.

        StateAway where the store can't be reached: then nothing was given out.
        """
        ...


class MemoryLedger:
    """The decisions of this process. The oldest go when there are too many."""

    shared = False

    def __init__(self, ttl: float = TTL, max_rows: int = MAX_ROWS, clock: Callable[[], float] = time) -> None:
        self._ttl = ttl
        self._max_rows = max_rows
        self._clock = clock
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        self._rows = 0
        self._lock = Lock()

    def remember(self, block: DecisionBlock, values: NDArray[Any] | None) -> None:
        made = _Request(block, values)
        with self._lock:
            old = self._requests.pop(block.request, None)
            self._rows += made.rows - (old.rows if old is not None else 0)
            self._requests[block.request] = made
            oldest = block.time - self._ttl
            while self._rows > self._max_rows or next(iter(self._requests.values())).time < oldest:
                _, gone = self._requests.popitem(last=False)
                self._rows -= gone.rows
                if not self._requests:
                    break

    def claim(self, decisions: Sequence[str]) -> list[Claim]:
        with self._lock:
            return [self._claim(decision) for decision in decisions]

    def _claim(self, decision: str) -> Claim:
        request, row = split(decision)
        known = self._requests.get(request)
        if known is None or not 0 <= row < known.rows or known.time < self._clock() - self._ttl:
            return UNKNOWN
        if known.claimed is None:
            known.claimed = set()
        if row in known.claimed:
            return AGAIN
        known.claimed.add(row)
        return Claim("first", known.row(row))


class _Request:
    """A request's decisions, no larger than they need be: there are many."""

    __slots__ = ("_kept", "claimed", "rows", "time")

    def __init__(self, block: DecisionBlock, values: NDArray[Any] | None) -> None:
        self.rows = len(block)
        self.time = block.time
        self.claimed: set[int] | None = None
        self._kept: Rewardable | tuple[DecisionBlock, NDArray[Any] | None, list[float]]
        if self.rows == 1:
            self._kept = rewardable(block, values, 0, float(block.vectors[block.cells[0], block.chosen[0]]))
        else:
            own = propensities(block)
            slim = replace(block, keys=None, cells=_NONE, vectors=_NONE[None], draws=_NONE, reasons=(), segments=())
            self._kept = slim, values, own

    def row(self, row: int) -> Rewardable:
        if isinstance(self._kept, Rewardable):
            return self._kept
        block, values, own = self._kept
        return rewardable(block, values, row, own[row])


_NONE: Any = np.zeros(0, dtype=np.uint64)


def split(decision: str) -> tuple[str, int]:
    """A decision's request and row; row -1 where it has none."""
    request, _, row = decision.rpartition("/")
    return request, int(row) if row.isascii() and row.isdigit() and len(row) < 10 else -1


def propensities(block: DecisionBlock) -> list[float]:
    """The probability with which each row's arm was chosen."""
    own: list[float] = block.vectors[block.cells, block.chosen].tolist()
    return own


def rewardable(block: DecisionBlock, values: NDArray[Any] | None, row: int, propensity: float) -> Rewardable:
    """One row of a block."""
    chosen = int(block.chosen[row])
    fell_back = block.fallback is not None and block.fallback[row] is not None
    trains = not block.forced and not fell_back and int(block.served[row]) == chosen
    return Rewardable(
        block.arms[chosen] if trains else None,
        {name: plain(column[row]) for name, column in block.context.items()},
        propensity,
        block.time,
        None if values is None else np.asarray(values[row]),
    )
