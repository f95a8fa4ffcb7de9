"""What an evaluator is: it adds files to an evaluation, such as an HTML report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lepton_plugins.records.report import EvaluationReport

if TYPE_CHECKING:
    import pandas as pd


class Evaluator(Protocol):
    """Made without arguments; runs in the evaluating process, after the version's own metrics."""

    def evaluate(self, report: EvaluationReport, predictions: pd.DataFrame, to: Path) -> Mapping[str, Path]:
        """Write files below `to`; returns them by the name they get in the report ("evidently.html").

        `predictions` has one row per evaluated row: `row_id`, `target`, the prediction columns
        (`prediction`, and `proba_<class>` where there are probabilities) and the slice columns.
        """
        ...
