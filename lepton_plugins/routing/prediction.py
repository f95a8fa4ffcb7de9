"""What a router answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.decision import Decision
from lepton_plugins.routing.store import DecisionBlock


class Prediction:
    """Values in the rows' order, and who answered.

    `values` are as in `records.output`; `classes` name the columns of probabilities. `block` holds the
    decisions by column, `decisions` as records, made when asked for.
    """

    __slots__ = ("_decisions", "block", "classes", "values")

    def __init__(self, values: NDArray[Any], block: DecisionBlock, classes: Sequence[str]) -> None:
        self.values = values
        self.block = block
        self.classes = classes
        self._decisions: list[Decision] | None = None

    @property
    def decisions(self) -> list[Decision]:
        if self._decisions is None:
            self._decisions = list(self.block.rows())
        return self._decisions

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that answered, in the plan's order."""
        return tuple(self.block.arms[index] for index in np.unique(self.block.served))

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Prediction({len(self)} rows by {', '.join(self.versions) or 'nobody'})"
