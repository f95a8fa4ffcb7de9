"""What Evidently is asked: its data definition and its metrics, by task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lepton_plugins.records.report import EvaluationReport

if TYPE_CHECKING:
    import pandas as pd

#: Ranks that rankings are judged on.
TOP = 10


def define(report: EvaluationReport, rows: pd.DataFrame) -> tuple[pd.DataFrame, Any, list[Any]]:
    """The table, its data definition and the metrics."""
    if report.task == "classification":
        return _classification(report, rows)
    if report.task == "regression":
        return _regression(rows)
    return _ranking(rows)


def _classification(report: EvaluationReport, rows: pd.DataFrame) -> tuple[pd.DataFrame, Any, list[Any]]:
    import pandas as pd
    from evidently import BinaryClassification, DataDefinition, MulticlassClassification
    from evidently.presets import ClassificationPreset

    # A class may be called as one of our columns: Evidently wants probabilities in columns called by the class.
    table = pd.DataFrame({"(target)": rows["target"].astype(str), "(prediction)": rows["prediction"].astype(str)})
    names = {"target": "(target)", "prediction_labels": "(prediction)"}
    probabilities = report.output == "proba"
    if len(report.classes) == 2:
        if probabilities:
            table["(probability)"] = rows[f"proba_{report.classes[1]}"]
        kind: Any = BinaryClassification(
            **names, prediction_probas="(probability)" if probabilities else None, pos_label=report.classes[1]
        )
    else:
        if probabilities:
            table = table.assign(**{name: rows[f"proba_{name}"] for name in report.classes})
        kind = MulticlassClassification(**names, prediction_probas=list(report.classes) if probabilities else None)
    categories = ["(target)", "(prediction)"]
    numbers = [name for name in table.columns if name not in categories]
    definition = DataDefinition(classification=[kind], categorical_columns=categories, numerical_columns=numbers)
    return table, definition, [ClassificationPreset()]


def _regression(rows: pd.DataFrame) -> tuple[pd.DataFrame, Any, list[Any]]:
    from evidently import DataDefinition, Regression
    from evidently.metrics import MAE, RMSE, AbsMaxError, MeanError, R2Score

    table = rows[["target", "prediction"]].astype(float)
    definition = DataDefinition(
        regression=[Regression(target="target", prediction="prediction")], numerical_columns=["target", "prediction"]
    )
    # Without MAPE: near a target of zero it explodes (1e17 on standard normal data).
    metrics = [
        MAE(error_plot=True, error_distr=True),
        RMSE(error_plot=False, error_distr=False),
        R2Score(),
        MeanError(error_plot=False, error_normality=True),
        AbsMaxError(),
    ]
    return table, definition, metrics


def _ranking(rows: pd.DataFrame) -> tuple[pd.DataFrame, Any, list[Any]]:
    from evidently import DataDefinition, Recsys
    from evidently.metrics import MRR, NDCG, PrecisionTopK, RecallTopK

    table = rows[["row_id", "group", "target", "prediction"]].rename(columns={"row_id": "item", "group": "user"})
    recommendation = Recsys(
        user_id="user", item_id="item", target="target", prediction="prediction", recommendations_type="score"
    )
    metrics = [NDCG(k=TOP), MRR(k=TOP), RecallTopK(k=TOP), PrecisionTopK(k=TOP)]
    return table, DataDefinition(ranking=[recommendation]), metrics
