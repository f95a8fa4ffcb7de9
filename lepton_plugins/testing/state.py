"""The contract of stores of learning state."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import ClassVar

import numpy as np

from lepton_plugins.routing.learning_state import ERA, Flush, StateStore, Sums
from lepton_plugins.testing.contract import Contract, at_once, require
from lepton_plugins.testing.store import decision_block


class StateStoreContract(Contract):
    """What every store of learning state keeps. Say how one is opened; `folder` is empty and the check's own."""

    #: Whether sums are there when the store is opened again.
    durable: ClassVar[bool] = True

    @abstractmethod
    def open(self, folder: Path) -> StateStore:
        """Open the store; what it keeps in files goes into `folder`. Two checks must not see each other's sums."""

    def test_nothing_is_known_at_first(self) -> None:
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            found = store.exchange("model", ["a", "b"], None)
            store.close()
            require(found == {}, f"before the first flush found {found}, expected no sums")

    def test_flushes_add_up(self) -> None:
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            store.exchange("model", ["a"], Flush("one", 1, {"a": _sums(1.0, 2.0), "b": _sums(0.5, 0.25)}))
            store.exchange("model", ["a"], Flush("two", 1, {"a": _sums(10.0, 20.0)}))
            found = store.exchange("model", ["b", "a", "c"], Flush("one", 2, {"a": _sums(100.0, 0.1)}))
            store.close()
            require(list(found) == ["b", "a"], f"asked for b, a, c found {list(found)}, expected those that there are")
            _expect(found["a"], 111.0, 22.1)
            _expect(found["b"], 0.5, 0.25)

    def test_a_flush_counts_once_however_often_it_is_sent(self) -> None:
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            for _ in range(3):
                found = store.exchange("model", ["a"], Flush("one", 1, {"a": _sums(1.0, 1.0)}))
            _expect(found["a"], 1.0, 1.0)
            store.exchange("model", ["a"], Flush("one", 2, {"a": _sums(1.0, 1.0)}))
            found = store.exchange("model", ["a"], Flush("one", 1, {"a": _sums(1.0, 1.0)}))
            store.close()
            _expect(found["a"], 2.0, 2.0)

    def test_models_are_apart(self) -> None:
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            store.exchange("model", ["a"], Flush("one", 1, {"a": _sums(1.0, 1.0)}))
            found = store.exchange("models/{odd name}:é", ["a"], None)
            store.close()
            require(found == {}, f"another model has {found}")

    def test_a_later_era_outweighs_an_earlier_one(self) -> None:
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            early, late = Sums(7, np.array([2.0**ERA, 1.0])), Sums(8, np.array([1.0, 0.0]))
            store.exchange("model", ["a"], Flush("one", 1, {"a": early}))
            found = store.exchange("model", ["a"], Flush("one", 2, {"a": late}))
            again = store.exchange("model", ["a"], Flush("one", 3, {"a": early}))
            store.close()
            for sums, first in ((found["a"], 2.0), (again["a"], 3.0)):
                require(sums.era == 8, f"found the era {sums.era}, expected the later one, 8")
                require(sums.values[0] == first, f"found {sums.values[0]}, expected {first}: an era is a power of two")

    def test_wide_sums_are_exact(self) -> None:
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            rng = np.random.default_rng(0)
            parts = [rng.normal(size=1058) for _ in range(3)]
            for number, part in enumerate(parts, 1):
                found = store.exchange("model", ["a"], Flush("one", number, {"a": Sums(0, part)}))
            store.close()
            expected = (parts[0] + parts[1]) + parts[2]
            require(np.array_equal(found["a"].values, expected), "sums of 1,058 numbers differ from adding doubles")

    def test_several_threads_lose_nothing(self) -> None:
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            numbers = iter(range(10_000))
            at_once(lambda: store.exchange("model", ["a"], Flush(f"r{next(numbers)}", 1, {"a": _sums(1.0, 2.0)})))
            found = store.exchange("model", ["a"], None)
            store.close()
            _expect(found["a"], 32.0, 64.0)

    def test_it_is_there_after_opening_again(self) -> None:
        if not self.durable:
            return
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            store.exchange("model", ["a"], Flush("one", 1, {"a": _sums(1.0, 2.0)}))
            store.close()
            store = self.open(Path(folder))
            found = store.exchange("model", ["a"], Flush("one", 1, {"a": _sums(1.0, 2.0)}))
            store.close()
            _expect(found["a"], 1.0, 2.0)

    def test_decisions_are_given_out_once(self) -> None:
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            name = Path(folder).name  # Not the requests of another check.
            store.ledger.remember(replace(decision_block(name, 3), time=time()), np.array([[0.25, 0.75]] * 3))
            strangers = [f"{name}/3", f"{name}/-1", "nobody/0", "", f"{name}/99999999999"]
            claims = store.ledger.claim([f"{name}/0", f"{name}/0", f"{name}/1", *strangers])
            kinds = [claim.kind for claim in claims]
            require(kinds == ["first", "again", "first", *["unknown"] * 5], f"found {kinds}")
            again = [claim.kind for claim in store.ledger.claim([f"{name}/1", f"{name}/2"])]
            require(again == ["again", "first"], f"claimed again: found {again}, expected again, first")
            first, second = claims[0].decision, claims[2].decision
            store.close()
            assert first is not None
            assert second is not None
            require(first.version == "1", f"found version {first.version}, expected the chosen one, 1")
            require(second.version is None, "a row that another version answered is not to be learned from")
            require(dict(first.context) == {"carrier": "UA", "distance": 0.0}, f"found the context {first.context}")
            require(first.propensity == 0.5, f"found the propensity {first.propensity}, expected 0.5")
            require(np.array_equal(first.output, [0.25, 0.75]), f"found the answer {first.output}")

    def test_several_threads_claim_a_decision_once(self) -> None:
        with TemporaryDirectory() as folder:
            store = self.open(Path(folder))
            name = Path(folder).name
            store.ledger.remember(replace(decision_block(name, 1), time=time()), None)
            kinds = [claims[0].kind for claims in at_once(lambda: store.ledger.claim([f"{name}/0"]))]
            store.close()
            require(
                kinds.count("first") == 1, f"claimed {len(kinds)} times at once: first {kinds.count('first')} times"
            )


def _sums(*values: float) -> Sums:
    return Sums(0, np.array(values))


def _expect(sums: Sums, *values: float) -> None:
    require(np.array_equal(sums.values, values), f"found {sums.values.tolist()}, expected {list(values)}")
