"""A reward made of a label: how good the answer was that it shows, by the plan's metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lepton_plugins.errors import InvalidInput, LabelInvalid
from lepton_plugins.records.plan import DeploymentPlan


class LabelReward:
    """The utility P of an answer, on [0, 1]: for a loss 1 - loss / (2 · baseline), for a metric in [0, 1] itself.

    The metric is the plan's (`objective.metric`), the baseline its evidence's: the policy's document has both.
    """

    def __init__(self, plan: DeploymentPlan, classes: Sequence[str]) -> None:
        told = plan.policy.document
        self._metric: str | None = told.get("metric")
        self._baseline: float | None = told.get("baseline")
        self._output = plan.output
        self._classes = tuple(classes)

    def check(self, label: Any) -> None:
        """LabelInvalid where no reward can be made of it."""
        if self._metric is None or self._output == "score":
            raise LabelInvalid(label, "a reward: this plan has no metric that one label gives a value")
        if self._output == "value":
            try:
                float(label)
            except (TypeError, ValueError):
                raise LabelInvalid(label, "a number") from None
            return
        from lepton_plugins.evaluation.labels import class_codes

        if self._classes:
            try:
                class_codes(np.array([label], dtype=object), self._classes)
            except InvalidInput:
                raise LabelInvalid(label, f"one of the classes {', '.join(self._classes[:12])}") from None

    def reward(self, label: Any, output: Any) -> float | None:
        """On [0, 1]; None where the answer isn't known any more."""
        if output is None or self._metric is None:
            return None
        from lepton_plugins.evaluation.row_metrics import row_values

        answer = np.asarray(output)[None]
        if self._output == "value":
            target = np.array([float(label)])
        else:
            target = np.array([label], dtype=object)
            if answer.ndim == 1 and not self._classes:
                return float(str(label) == str(answer[0]))
        value = float(row_values(self._metric, target, answer, self._classes)[0])
        utility = value if self._baseline is None else 1.0 - value / (2.0 * self._baseline)
        return min(max(utility, 0.0), 1.0) if utility == utility else None
