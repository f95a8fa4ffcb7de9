"""Evidently's figures, each held against Lepton's own on the same rows before it is passed on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_evidently.definition import TOP
from lepton_plugins.evaluation.score import score
from lepton_plugins.records.report import EvaluationReport

if TYPE_CHECKING:
    import pandas as pd

#: Evidently's metric types and what Lepton calls the same. Its MRR ends at rank k, Lepton's doesn't end.
_SAME = {
    "Accuracy": ("accuracy",),
    "Precision": ("precision", "precision_macro"),
    "Recall": ("recall", "recall_macro"),
    "F1Score": ("f1", "f1_macro"),
    "RocAuc": ("roc_auc",),
    "LogLoss": ("log_loss",),
    "MAE": ("mae",),
    "RMSE": ("rmse",),
    "R2Score": ("r2",),
    "NDCG": (f"ndcg@{TOP}",),
    "RecallTopK": (f"recall@{TOP}",),
}


def checked_figures(
    report: EvaluationReport, rows: pd.DataFrame, metrics: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Figures by Evidently's metric type, and those left out with the reason.

    A figure is a number, or a mapping from labels (or statistics) to numbers.
    """
    own = _own(report, rows)
    figures: dict[str, Any] = {}
    left_out: list[dict[str, str]] = []
    for metric in metrics:
        name = str(metric["config"]["type"]).rpartition(":")[2]
        value = _plain(metric["value"], metric["config"])
        if not _finite(value):
            left_out.append({"name": name, "reason": "it is undefined on these rows"})
            continue
        lepton = next((own[same] for same in _SAME.get(name, ()) if own.get(same) is not None), None)
        figure = value["mean"] if isinstance(value, dict) and "mean" in value else value
        if (
            isinstance(lepton, float)
            and isinstance(figure, float)
            and not math.isclose(figure, lepton, rel_tol=1e-6, abs_tol=1e-9)
        ):
            reason = f"Evidently says {figure:.6g}, Lepton measures {lepton:.6g} on the same rows"
            left_out.append({"name": name, "reason": reason})
            continue
        figures[name] = value
    return figures, left_out


def _own(report: EvaluationReport, rows: pd.DataFrame) -> dict[str, float | None]:
    assert report.output is not None
    groups = rows["group"].to_numpy() if "group" in rows else None
    columns = [f"proba_{name}" for name in report.classes] if report.output == "proba" else "prediction"
    output: NDArray[Any] = rows[columns].to_numpy()
    target = rows["target"].astype(object).to_numpy() if report.classes else rows["target"].to_numpy()
    measured = score(report.task, target, output, report.output, report.classes, groups=groups)
    return {name: estimate.value for name, estimate in measured.items()}


def _plain(value: Any, config: Mapping[str, Any]) -> Any:
    """numpy's numbers as Python's; of a metric by rank the one at k (Evidently returns ten whatever k is)."""
    if isinstance(value, Mapping) and set(value) == {"rank", "value"}:
        by_rank = value["value"]
        ordered = list(by_rank.values()) if isinstance(by_rank, Mapping) else list(by_rank)
        value = ordered[int(config["k"]) - 1] if len(ordered) >= int(config["k"]) else math.nan
    if isinstance(value, Mapping):
        return {str(key): _plain(item, config) for key, item in value.items()}
    return float(value) if isinstance(value, (int, float, np.number)) else math.nan


def _finite(value: Any) -> bool:
    return all(map(_finite, value.values())) if isinstance(value, dict) else math.isfinite(value)
