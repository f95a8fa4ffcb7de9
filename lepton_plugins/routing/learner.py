"""A replica's part in learning: it chooses by what it knows, and exchanges sums with the store every second."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock, Thread
from time import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import StateAway
from lepton_plugins.routing.learning import LearningPolicy
from lepton_plugins.routing.learning_state import ERA, Flush, StateStore, Sums, together

logger = logging.getLogger("lepton_plugins.routing")

#: Seconds between two exchanges with the store.
INTERVAL = 1.0

_LEARNERS: weakref.WeakSet[Learner] = weakref.WeakSet()


class Learner:
    """Trains one policy. `keys` name the sums of its arms in the store, in their order.

    What was learned here and isn't in the store yet is kept as long as the store is away. A flush whose answer was
    lost is sent again under its number, and the store counts it once.
    """

    def __init__(
        self,
        policy: LearningPolicy,
        store: StateStore,
        model: str,
        keys: Sequence[str],
        *,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time,
    ) -> None:
        self.policy = policy
        self._store = store
        self._model = model
        self._keys = tuple(keys)
        self._interval = interval
        self._clock = clock
        #: Called after each exchange that went well.
        self.then: Callable[[], object] = lambda: None
        self._lock = Lock()
        self._exchanging = Lock()
        self._begin()
        _LEARNERS.add(self)

    def _begin(self) -> None:
        self._replica = os.urandom(6).hex()
        self._sequence = 0
        self._revision = 0
        self._base: dict[str, Sums] = {}
        self._sent: Flush | None = None
        self._fresh: dict[str, Sums] = {}
        self._away = False
        self._scale = 1.0
        self._era = self._present() if self.policy.half_life is not None else 0
        self._stop = Event()
        self._thread: Thread | None = None
        self.policy.state = f"{self._replica}:0"

    def forked(self) -> None:
        """In a forked process: what was learned here and not flushed is the parent's to flush."""
        if self._thread is not None:
            self._lock, self._exchanging = Lock(), Lock()
            self._begin()
            self._watch()

    def start(self) -> None:
        """Take what the store has, and exchange from now on. A store that is away stops nothing."""
        self.exchange()
        self._watch()

    def _watch(self) -> None:
        self._thread = Thread(target=_work, args=(weakref.ref(self), self._stop, self._interval), daemon=True)
        self._thread.name = "lepton-learning"
        self._thread.start()

    # --- learning --------------------------------------------------------------------------

    def learn(self, arm: int, context: Mapping[str, Any], reward: float, propensity: float, when: float) -> None:
        """One rewarded decision, made at `when` (Unix seconds)."""
        made = self.policy.contribution(context, reward, propensity)
        key = self._keys[arm]
        with self._lock:
            fresh = self._fresh.get(key)
            weight = self._weight(when) if self.policy.half_life is not None else 1.0
            if fresh is None:
                self._fresh[key] = Sums(self._era, weight * made)
            else:
                fresh.values.__iadd__(made if weight == 1.0 else weight * made)
            self.policy.learn(arm, made, weight * self._scale)
            self._revision += 1
            self.policy.state = f"{self._replica}:{self._revision}"

    def _weight(self, when: float) -> float:
        """A contribution's weight in the present era; `_scale` brings it to what it weighs now."""
        half_life = self.policy.half_life
        assert half_life is not None
        ages = max((when - self._era * ERA * half_life) / half_life, -1000.0)
        return float(2.0 ** min(ages, 1000.0))

    def _present(self) -> int:
        assert self.policy.half_life is not None
        return int(self._clock() // (ERA * self.policy.half_life))

    def _in_era(self, sums: Sums) -> Sums:
        """Sums in the present era's weights; another replica's clock may be ahead of it."""
        return sums if sums.era == self._era else Sums(self._era, sums.values * 2.0 ** (ERA * (sums.era - self._era)))

    # --- exchanging ------------------------------------------------------------------------

    def exchange(self) -> bool:
        """Flush what is fresh and take what all have learned; False where the store is away."""
        with self._exchanging:
            # What was sent before without an answer goes first, under its old number.
            if self._sent is not None and not self._once():
                return False
            if not self._once():
                return False
        self.then()
        return True

    def _once(self) -> bool:
        with self._lock:
            if self._sent is None and self._fresh:
                self._sequence += 1
                self._sent = Flush(self._replica, self._sequence, self._fresh)
                self._fresh = {}
            sent = self._sent
        try:
            found = self._store.exchange(self._model, self._keys, sent)
        except StateAway as error:
            if not self._away:
                logger.warning("%s", error)
            self._away = True
            return False
        if self._away:
            logger.warning("the learning state is there again")
        self._away = False
        with self._lock:
            expected = together([self._base, sent.sums] if sent is not None else [self._base])
            self._base, self._sent = found, None
            if self.policy.half_life is not None or not _equal(found, expected):
                self._restore()
        return True

    def _restore(self) -> None:
        """Let the policy choose by all that is known now."""
        half_life = self.policy.half_life
        self._scale = 1.0
        if half_life is not None:
            self._era = self._present()
            self._fresh = {key: self._in_era(sums) for key, sums in self._fresh.items()}
            self._scale = 1.0 / self._weight(self._clock())
        nothing = Sums(self._era, np.zeros(self.policy.width))
        known = together([self._base, self._fresh])
        sums: NDArray[np.float64] = np.stack([self._in_era(known.get(key, nothing)).values for key in self._keys])
        self.policy.restore(sums if half_life is None else sums * self._scale)
        self._revision += 1
        self.policy.state = f"{self._replica}:{self._revision}"

    def close(self) -> None:
        """Exchange a last time and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
            self.exchange()


def _equal(found: Mapping[str, Sums], expected: Mapping[str, Sums]) -> bool:
    return found.keys() == expected.keys() and all(
        found[key].era == expected[key].era and np.array_equal(found[key].values, expected[key].values) for key in found
    )


def _work(learner: weakref.ref[Learner], stop: Event, interval: float) -> None:
    """Exchange until the learner is closed, or gone."""
    while not stop.wait(interval):
        here = learner()
        if here is None:
            return
        try:
            here.exchange()
        except Exception:  # One exchange that fails must not end all.
            logger.exception("learning state can't be exchanged")
        del here


def _forked() -> None:
    for learner in list(_LEARNERS):
        learner.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
