"""Numbers and metric names as people read them in MLflow's UI."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from lepton_plugins.records.report import Estimate, EvaluationReport

#: The figure that a version is known by, the first that the report has.
_HEADLINES = {
    "classification": ("log_loss", "roc_auc", "accuracy"),
    "regression": ("rmse", "mse", "mae"),
    "ranking": ("ndcg@10",),
}


def headline(report: EvaluationReport) -> str | None:
    """The name of the metric that stands first."""
    for name in (*_HEADLINES[report.task], *report.metrics):
        estimate = report.metrics.get(name)
        if estimate is not None and estimate.value is not None:
            return name
    return None


def metric_name(name: str) -> str:
    """As people write it: ROC AUC, log loss."""
    return {"roc_auc": "ROC AUC", "r2": "R²", "rmse": "RMSE", "mae": "MAE", "mse": "MSE", "f1": "F1"}.get(
        name, name.replace("_", " ")
    )


def number(value: float | None) -> str:
    """Four significant digits: 0.4312, 12.31, 48,210."""
    if value is None:
        return "–"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    text = f"{value:.4g}"
    return text if "e" not in text else f"{value:.2e}"


def interval(estimate: Estimate) -> str:
    """`[0.421, 0.44]`, or a dash where there is none."""
    if estimate.low is None and estimate.high is None:
        return "–"
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def size(octets: float) -> str:
    """Bytes in binary units: 12.3 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(octets) < 1024 or unit == "GiB":
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    raise AssertionError("unreachable")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> str:
    """A Markdown table; columns in `right` are right-aligned. MLflow draws cells without any space between."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(f"{text}&emsp;" if text else "" for text in cells) + " |"

    rule = "|" + "|".join("---:" if index in right else "---" for index in range(len(head))) + "|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])


def cell(text: str) -> str:
    """Text inside a Markdown table: no bars, no line breaks, no HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
