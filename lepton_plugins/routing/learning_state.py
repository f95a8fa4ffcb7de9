"""Learning state: additive sums by arm, kept in a store that any number of replicas add to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.routing.ledger import Ledger, MemoryLedger

#: Half-lives in an era. Within one, weights grow from 1 to 2^256; from one to the next all is divided by that.
ERA = 256


class Sums(NamedTuple):
    """One arm's sums, shape (width,), in the weights of an era.

    A contribution weighs 2^(age / half-life) more the later it is, counted from the era's beginning (forward
    decay: Cormode, Shkapenyuk, Srivastava, Xu 2009): so sums stay additive although the past fades.
    """

    era: int
    values: NDArray[np.float64]

    def plus(self, other: Sums) -> Sums:
        """Both together, in the later one's era. A shift by an era is a power of two: it rounds nothing."""
        if self.era == other.era:
            return Sums(self.era, self.values + other.values)
        late, early = (self, other) if self.era > other.era else (other, self)
        return Sums(late.era, late.values + early.values * 2.0 ** (-ERA * (late.era - early.era)))


@dataclass(frozen=True, slots=True)
class Flush:
    """What a replica has learned since its last flush, by key. The same sequence number is the same flush."""

    replica: str
    sequence: int
    sums: Mapping[str, Sums]


class StateStore(Protocol):
    """Where learning state is kept. Thread-safe."""

    ledger: Ledger
    """The decisions that may still be rewarded."""

    def exchange(self, model: str, keys: Sequence[str], flush: Flush | None) -> dict[str, Sums]:
        """Add a flush, exactly once however often it is sent, and tell the sums of these keys.

        Keys without any sums are left out. StateAway where the store can't be reached: then the flush may or may
        not have been added, and is sent again.
        """
        ...

    def close(self) -> None: ...


class MemoryStateStore:
    """Learning state in this process, which ends with it."""

    def __init__(self) -> None:
        self.ledger: Ledger = MemoryLedger()
        self._sums: dict[str, dict[str, Sums]] = {}
        self._flushed: dict[str, int] = {}
        self._lock = Lock()

    def exchange(self, model: str, keys: Sequence[str], flush: Flush | None) -> dict[str, Sums]:
        with self._lock:
            kept = self._sums.setdefault(model, {})
            if flush is not None and self._flushed.get(flush.replica, 0) < flush.sequence:
                add(kept, flush.sums)
                self._flushed[flush.replica] = flush.sequence
            return {key: kept[key] for key in keys if key in kept}

    def close(self) -> None:
        """Nothing to close."""


def add(kept: dict[str, Sums], more: Mapping[str, Sums]) -> None:
    """Add sums to those of the same keys."""
    for key, sums in more.items():
        kept[key] = kept[key].plus(sums) if key in kept else sums


def together(parts: Iterable[Mapping[str, Sums]]) -> dict[str, Sums]:
    """The sums of several parts, by key."""
    total: dict[str, Sums] = {}
    for part in parts:
        add(total, part)
    return total


#: What policies learn where no store is named: it survives plans, not the process.
PROCESS_STATE = MemoryStateStore()


def open_state(uri: str) -> StateStore:
    """The store of learning state at `uri`, by the plugin that handles its scheme (`redis://host:6379/0`, a path)."""
    from lepton_plugins.plugins import plugins

    opened: StateStore = plugins().by_scheme("store", uri, holds="state").load()(uri)
    return opened
