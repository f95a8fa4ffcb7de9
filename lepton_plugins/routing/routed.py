"""A row that is decided and not yet answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.routing.deciding import Decided
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.routing.policy import RowChoice


@dataclass(slots=True)
class Routed:
    """One row, and where it goes. `columns` are checked, `key` is the unit's hash as it is logged."""

    columns: Columns
    choice: RowChoice
    draw: int
    key: str | None
    context: dict[str, NDArray[Any]]
    """What is logged of the row, each an array of shape (1,)."""
    request: str
    held: bool
    """Whether its unit is held out."""

    def kind(self) -> tuple[object, ...]:
        """Rows of one kind may be answered by one call: they go to one arm and can stand in one array."""
        columns = [(name, column.dtype.char, column.shape) for name, column in self.columns.items()]
        context = [(name, column.dtype.char) for name, column in self.context.items()]
        return (self.choice.arm, self.key is None, *columns, *context)


def joined(routed: Sequence[Routed], *, keyed: bool) -> tuple[Columns, dict[str, NDArray[Any]], Decided]:
    """Rows of one kind in one: their columns, their logged context and their decisions; `keyed` plans log every key."""
    first = routed[0]
    decided = Decided(
        np.full(len(routed), first.choice.arm, dtype=np.intp),
        np.arange(len(routed)),
        np.array([one.choice.vector for one in routed], dtype=np.float64),
        [one.choice.reason for one in routed],
        [one.choice.segment for one in routed],
        np.array([one.draw for one in routed], dtype=np.uint64),
        [one.key for one in routed] if keyed or first.key is not None else None,
        sum(one.held for one in routed),
    )
    columns = {name: np.concatenate([one.columns[name] for one in routed]) for name in first.columns}
    context = {name: np.concatenate([one.context[name] for one in routed]) for name in first.context}
    return columns, context, decided
