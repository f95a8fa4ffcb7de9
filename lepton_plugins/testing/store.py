"""The contract of stores of decisions."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np

from lepton_plugins.records.decision import Feedback
from lepton_plugins.routing.store import DecisionBlock, DecisionLog
from lepton_plugins.testing.contract import Contract, at_once, require


class StoreContract(Contract):
    """What every store keeps. Say how one is opened; `folder` is empty and the check's own."""

    #: Whether decisions are there when the store is opened again.
    durable: ClassVar[bool] = True

    @abstractmethod
    def open(self, folder: Path) -> DecisionLog:
        """Open the store; what it keeps in files goes into `folder`."""

    def test_feedback_finds_its_decision(self) -> None:
        with TemporaryDirectory() as folder:
            log = self.open(Path(folder))
            log.append(decision_block("request-1", 3))
            log.flush()
            receipt = log.feedback(
                [Feedback(decision="request-1/0", reward=1.0), Feedback(decision="request-1/2", label="a")]
            )
            log.close()
            require(
                (receipt.stored, receipt.duplicates, list(receipt.unknown)) == (2, 0, []),
                f"found {receipt}, expected 2 stored, no duplicates, none unknown",
            )

    def test_the_first_feedback_counts(self) -> None:
        with TemporaryDirectory() as folder:
            log = self.open(Path(folder))
            log.append(decision_block("request-1", 1))
            log.flush()
            log.feedback([Feedback(decision="request-1/0", reward=1.0)])
            receipt = log.feedback([Feedback(decision="request-1/0", reward=0.0)] * 2)
            log.close()
            require(
                (receipt.stored, receipt.duplicates) == (0, 2), f"found {receipt}, expected 2 duplicates, none stored"
            )

    def test_unknown_decisions_are_named(self) -> None:
        with TemporaryDirectory() as folder:
            log = self.open(Path(folder))
            log.append(decision_block("request-1", 2))
            log.flush()
            strangers = ["request-1/2", "request-2/0", "no such id", ""]
            receipt = log.feedback([Feedback(decision=stranger, reward=1.0) for stranger in strangers])
            log.close()
            require(list(receipt.unknown) == strangers, f"found unknown {list(receipt.unknown)}, expected {strangers}")
            require(receipt.stored == 0, f"found {receipt.stored} stored, expected none")

    def test_nothing_is_dropped_below_its_bound(self) -> None:
        with TemporaryDirectory() as folder:
            log = self.open(Path(folder))
            counter = iter(range(10_000))
            at_once(lambda: log.append(decision_block(f"request-{next(counter)}", 2)))
            log.flush()
            receipt = log.feedback([Feedback(decision=f"request-{number}/1", reward=0.5) for number in range(32)])
            dropped = log.dropped
            log.close()
            require(dropped == 0, f"{dropped} decisions of 64 were dropped")
            require(
                receipt.stored == 32, f"after appends by several threads {receipt.stored} of 32 decisions were found"
            )

    def test_it_is_there_after_opening_again(self) -> None:
        if not self.durable:
            return
        with TemporaryDirectory() as folder:
            log = self.open(Path(folder))
            log.append(decision_block("request-1", 2))
            log.flush()
            log.feedback([Feedback(decision="request-1/0", reward=1.0)])
            log.close()
            log = self.open(Path(folder))
            receipt = log.feedback([Feedback(decision=f"request-1/{row}", reward=1.0) for row in (0, 1)])
            log.close()
            require(
                (receipt.stored, receipt.duplicates, list(receipt.unknown)) == (1, 1, []),
                f"opened again: found {receipt}, expected the earlier feedback as a duplicate and the other one stored",
            )

    def test_closing_twice_is_no_error(self) -> None:
        with TemporaryDirectory() as folder:
            log = self.open(Path(folder))
            log.append(decision_block("request-1", 1))
            log.close()
            log.close()


def decision_block(request: str, rows: int) -> DecisionBlock:
    """The decisions of one request: two arms, a column of text and one of numbers in the context."""
    carriers = np.empty(rows, dtype=object)
    carriers[:] = [("UA", None, "Ünï")[row % 3] for row in range(rows)]
    return DecisionBlock(
        request=request,
        time=1_700_000_000.0,
        plan="sha256:" + "0" * 64,
        arms=("1", "2"),
        keys=[None if row % 2 else f"{row:032x}" for row in range(rows)],
        context={"carrier": carriers, "distance": np.arange(rows, dtype=np.float64)},
        chosen=np.arange(rows, dtype=np.intp) % 2,
        served=np.zeros(rows, dtype=np.intp),
        cells=np.zeros(rows, dtype=np.intp),
        vectors=np.array([[0.5, 0.5]]),
        draws=np.full(rows, 2**64 - 1, dtype=np.uint64),
        reasons=("share 50 %",),
        segments=(None,),
        fallback=[None if row % 2 == 0 else "model_failed" for row in range(rows)],
    )
