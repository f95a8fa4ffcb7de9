"""What a router answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.decision import Decision
from lepton_plugins.routing.store import DecisionBlock

if TYPE_CHECKING:
    import pandas as pd


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

    def table(self) -> pd.DataFrame:
        """One row a row: the answer (`prediction`, or `proba_<class>`), and who gave it and why."""
        import pandas as pd

        columns: dict[str, Any] = {"prediction": self.values}
        if self.values.ndim == 2:
            names = self.classes or [str(index) for index in range(self.values.shape[1])]
            columns = {f"proba_{name}": self.values[:, index] for index, name in enumerate(names)}
        decisions = self.decisions
        columns["lepton_version"] = [decision.served for decision in decisions]
        columns["lepton_chosen"] = [decision.chosen for decision in decisions]
        columns["lepton_propensity"] = np.array(
            [decision.propensity[self.block.arms.index(decision.chosen)] for decision in decisions], dtype=np.float64
        )
        columns["lepton_segment"] = [decision.segment for decision in decisions]
        columns["lepton_reason"] = [decision.reason for decision in decisions]
        columns["lepton_decision"] = [decision.id for decision in decisions]
        return pd.DataFrame(columns)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Prediction({len(self)} rows by {', '.join(self.versions) or 'nobody'})"
