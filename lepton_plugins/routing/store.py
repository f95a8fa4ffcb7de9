"""What a store is: decisions go in as blocks, feedback finds its decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import LogUnreadable
from lepton_plugins.records.decision import Decision, Feedback


@dataclass(slots=True)
class DecisionBlock:
    """The decisions of one request, by column. Indices into `arms` where arms are meant; -1 is none."""

    request: str
    time: float
    plan: str
    arms: Sequence[str]
    keys: Sequence[str | None] | None
    """Keyed hashes, one a row; None if the plan has no sticky key."""
    context: Mapping[str, NDArray[Any]]
    chosen: NDArray[np.intp]
    served: NDArray[np.intp]
    cells: NDArray[np.intp]
    vectors: NDArray[np.float64]
    draws: NDArray[np.uint64]
    reasons: Sequence[str]
    segments: Sequence[str | None]
    forced: bool = False
    fallback: Sequence[str | None] | None = None
    shadows: tuple[str, ...] = ()
    state: str | None = None
    model: str = ""
    """The registered model that was asked."""
    consulted: bool = False
    """Whether answers were made from several versions' answers: given these, the choice was certain."""

    def __len__(self) -> int:
        return len(self.chosen)

    def row(self, index: int) -> Decision:
        """One row as a record."""
        cell = int(self.cells[index])
        return Decision(
            id=f"{self.request}/{index}",
            time=self.time,
            plan=self.plan,
            key=self.keys[index] if self.keys is not None else None,
            context={name: plain(column[index]) for name, column in self.context.items()},
            segment=self.segments[cell],
            chosen=self.arms[int(self.chosen[index])],
            served=self.arms[int(self.served[index])],
            propensity=tuple(self.vectors[cell].tolist()),
            draw=int(self.draws[index]),
            state=self.state,
            reason=self.reasons[cell],
            forced=self.forced,
            fallback=self.fallback[index] if self.fallback is not None else None,
            shadows=self.shadows,
            consulted=self.consulted,
        )

    def rows(self) -> Iterator[Decision]:
        return (self.row(index) for index in range(len(self)))


def plain(value: Any) -> Any:
    """The Python value of an array's element; a date is a datetime (numpy's nanoseconds would be an int)."""
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else value.astype("datetime64[us]").item()
    return value.item() if isinstance(value, np.generic) else value


class FeedbackReceipt(NamedTuple):
    """What became of a batch of feedback; `unknown` lists decision ids that the store doesn't know.

    `learned` counts what the policy learned from, None where it doesn't learn; `waiting` what will be learned from
    when the store of learning state is there again. `decisions` are those that it was stored with, by id, where
    the log says so.
    """

    stored: int
    duplicates: int
    unknown: Sequence[str]
    learned: int | None = None
    waiting: int = 0
    decisions: Mapping[str, Decision] | None = None

    def then(self, later: FeedbackReceipt) -> FeedbackReceipt:
        """Both together, where `later` is of those that were unknown here."""
        return FeedbackReceipt(
            self.stored + later.stored,
            self.duplicates + later.duplicates,
            later.unknown,
            None if self.learned is None else self.learned + (later.learned or 0),
            self.waiting + later.waiting,
        )


class DecisionLog(Protocol):
    """Where decisions go. `append` returns at once: a bounded queue that counts what it must drop."""

    dropped: int

    def append(self, block: DecisionBlock) -> None: ...

    def feedback(self, items: Sequence[Feedback]) -> FeedbackReceipt:
        """Store feedback with its decisions; the first for a decision counts, later ones are duplicates."""
        ...

    def flush(self) -> None:
        """Everything appended so far is on its way to be durable when this returns."""
        ...

    def close(self) -> None: ...


class LogReader(Protocol):
    """What was logged, to be read."""

    def blocks(self) -> Iterator[DecisionBlock]:
        """The decisions by request, in the order in which they were made."""
        ...

    def feedback(self) -> Iterator[tuple[Feedback, Decision]]:
        """The feedback, each with its decision."""
        ...


def open_reader(uri: str) -> LogReader:
    """What reads the decision log at `uri`: a directory, one of its files, or a URI. LogUnreadable, PathMissing."""
    from lepton_plugins.plugins import plugins

    offer = plugins().by_scheme("store", uri)
    reader = getattr(offer, "reader", None)
    if reader is None:
        raise LogUnreadable(uri, "such a log is written only, whoever it is sent to has the decisions")
    opened: LogReader = offer.model_copy(update={"target": reader}).load()(uri)
    return opened


def open_log(uri: str) -> DecisionLog:
    """The decision log at `uri`, by the store plugin that handles its scheme (`file:///var/lib/lepton`)."""
    from lepton_plugins.plugins import plugins

    opened: DecisionLog = plugins().by_scheme("store", uri).load()(uri)
    return opened
