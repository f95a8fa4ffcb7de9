"""A decision log as columns: what was decided for each row, with what probability, and what it earned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.routing.store import DecisionBlock, LogReader

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Logged:
    """Rows of a decision log, one entry each.

    `versions` are all arms of all plans in the log; `chosen` (n,) points into them, `vectors` (n, versions) are the
    logged propensities. `rewards` (n,) are NaN without feedback. `units` (n,) are codes of the unit keys; rows
    without a key that share a draw (a request that was decided as a whole) are one unit, too. `context` has the
    columns that every row has. `elsewhere` (n,) are rows that another version answered than the chosen one.
    """

    versions: tuple[str, ...]
    chosen: NDArray[np.intp]
    vectors: Floats
    draws: NDArray[np.uint64]
    units: NDArray[np.intp]
    rewards: Floats
    segments: NDArray[Any]
    context: dict[str, NDArray[Any]]
    forced: NDArray[np.bool_]
    consulted: NDArray[np.bool_]
    elsewhere: NDArray[np.bool_]
    model: str
    labels: int
    """Feedback that holds a label and no reward."""

    def __len__(self) -> int:
        return len(self.chosen)

    def take(self, rows: NDArray[np.bool_]) -> Logged:
        """The same of some rows."""
        return Logged(
            versions=self.versions,
            chosen=self.chosen[rows],
            vectors=self.vectors[rows],
            draws=self.draws[rows],
            units=np.unique(self.units[rows], return_inverse=True)[1].astype(np.intp),
            rewards=self.rewards[rows],
            segments=self.segments[rows],
            context={name: values[rows] for name, values in self.context.items()},
            forced=self.forced[rows],
            consulted=self.consulted[rows],
            elsewhere=self.elsewhere[rows],
            model=self.model,
            labels=self.labels,
        )


def read_log(reader: LogReader) -> Logged:
    """All decisions of a log with their feedback."""
    blocks = [block for block in reader.blocks() if len(block)]
    versions = tuple(dict.fromkeys(version for block in blocks for version in block.arms))
    rewards, labels = _feedback(reader)
    rows = [len(block) for block in blocks]
    place = {version: index for index, version in enumerate(versions)}
    columns = [[place[version] for version in block.arms] for block in blocks]
    vectors = np.zeros((sum(rows), len(versions)))
    begin = 0
    for block, order in zip(blocks, columns, strict=True):
        vectors[begin : begin + len(block), order] = block.vectors[block.cells]
        begin += len(block)
    names = set(blocks[0].context) if blocks else set()
    for block in blocks:
        names &= set(block.context)
    return Logged(
        versions=versions,
        chosen=_joined(
            [np.array(order, dtype=np.intp)[block.chosen] for block, order in zip(blocks, columns, strict=True)],
            np.intp,
        ),
        vectors=vectors,
        draws=_joined([block.draws for block in blocks], np.uint64),
        units=_units(blocks),
        rewards=_joined([rewards_of(block, rewards) for block in blocks], np.float64),
        segments=_objects([block.segments[cell] for block in blocks for cell in block.cells.tolist()]),
        context={name: _column([block.context[name] for block in blocks]) for name in _ordered(blocks, names)},
        forced=np.repeat(np.array([block.forced for block in blocks], dtype=bool), rows),
        consulted=np.repeat(np.array([block.consulted for block in blocks], dtype=bool), rows),
        elsewhere=_joined([block.served != block.chosen for block in blocks], np.bool_),
        model=next((block.model for block in reversed(blocks) if block.model), ""),
        labels=labels,
    )


def rewards_of(block: DecisionBlock, rewards: dict[str, float]) -> Floats:
    """The rewards (rows,) of a block's decisions, NaN without."""
    return np.array([rewards.get(f"{block.request}/{row}", np.nan) for row in range(len(block))])


def _feedback(reader: LogReader) -> tuple[dict[str, float], int]:
    """The first reward of each decision, and how many have a label only."""
    rewards: dict[str, float] = {}
    labels = 0
    for item, _ in reader.feedback():
        if item.reward is not None:
            rewards.setdefault(item.decision, item.reward)
        else:
            labels += 1
    return rewards, labels


def _units(blocks: Sequence[DecisionBlock]) -> NDArray[np.intp]:
    keys: list[Any] = []
    for block in blocks:
        draws = block.draws.tolist()
        keys += (
            draws if block.keys is None else [k if k is not None else d for k, d in zip(block.keys, draws, strict=True)]
        )
    codes: dict[Any, int] = {}
    return np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.intp)


def _ordered(blocks: Sequence[DecisionBlock], names: set[str]) -> list[str]:
    return [name for name in blocks[0].context if name in names] if blocks else []


def _column(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    kinds = {part.dtype for part in parts}
    if len(kinds) == 1:
        return np.concatenate(parts)
    return _objects([value for part in parts for value in part.tolist()])


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    boxed = np.empty(len(values), dtype=object)
    boxed[:] = values
    return boxed


def _joined(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype=dtype)
