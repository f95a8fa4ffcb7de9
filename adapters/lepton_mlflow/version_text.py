"""What a model version's description says of its report."""

from __future__ import annotations

from collections.abc import Collection

from lepton_mlflow.figures import cell, headline, interval, metric_name, number, size, table
from lepton_mlflow.names import FOLDER, REPORT_FILE
from lepton_plugins.records.report import EvaluationReport

_CHART = "chart.png"


def verdict(report: EvaluationReport) -> str:
    """The first line: in MLflow's version list only its first words are seen."""
    rows = "rows unknown" if report.taken_over else f"{report.dataset.rows:,} rows"
    data = f"on {report.dataset.name} ({rows})"
    if report.failure is not None:
        return f"Failed to {report.failure.stage} {data}"
    name = headline(report)
    if name is None:
        return f"Evaluated {data}"
    estimate = report.metrics[name]
    return f"{metric_name(name)} {number(estimate.value)} {interval(estimate)} {data}"


def bodies(report: EvaluationReport, experiment_id: str, run_id: str, files: Collection[str]) -> list[str]:
    """The block's content in Markdown, from the fullest to the shortest."""
    links = _links(report, experiment_id, run_id, files)
    if report.failure is not None:
        return [f"{cell(report.failure.reason)[:1000]}\n\n{links}", links]
    chart = [f"![Metrics by version and slice](get-artifact?path={FOLDER}/{_CHART}&run_uuid={run_id})"]
    chart = chart if _CHART in files else []
    cost = [line] if (line := _cost(report)) else []
    figures = _table(report)
    return [
        "\n\n".join([*cost, figures, *chart, links]),
        "\n\n".join([*cost, figures, links]),
        "\n\n".join([*cost, links]),
        links,
    ]


def _table(report: EvaluationReport) -> str:
    level = next((round(100 * estimate.level) for estimate in report.metrics.values()), 95)
    first = headline(report)
    unknown = "unknown" if report.taken_over else ""
    names = sorted(report.metrics, key=lambda name: name != first)
    rows = [
        (cell(metric_name(name)), number(estimate.value), interval(estimate), unknown or f"{estimate.n:,}")
        for name in names
        for estimate in [report.metrics[name]]
    ]
    return table(("metric", "value", f"{level} % interval", "n"), rows, right=(1, 3))


def _cost(report: EvaluationReport) -> str:
    parts = [
        f"{number(entry.p50_ms)} ms p50 and {number(entry.p99_ms)} ms p99 at batch {entry.batch_size}"
        for entry in report.latency[:1]
    ]
    if report.latency:
        best = max(report.latency, key=lambda entry: entry.rows_per_second)
        parts.append(f"{number(best.rows_per_second)} rows/s at batch {best.batch_size}")
    resources = report.resources
    if resources.artifact_bytes is not None:
        parts.append(f"{size(resources.artifact_bytes)} of files")
    if resources.peak_memory is not None:
        parts.append(f"{size(resources.peak_memory.value)} peak memory")
    held = resources.gpu_memory if resources.gpu_memory and resources.gpu_memory.value else resources.gpu_estimate
    if held is not None:
        parts.append(f"{size(held.value)} GPU memory ({held.how})")
    return "Cost: " + " · ".join(parts) if parts else ""


def _links(report: EvaluationReport, experiment_id: str, run_id: str, files: Collection[str]) -> str:
    run = f"#/experiments/{experiment_id}/runs/{run_id}"
    links = [f"[evaluation run]({run})", f"[report]({run}/artifacts/{REPORT_FILE})"]
    links += [
        f"[{name.removesuffix('.html')}]({run}/artifacts/{FOLDER}/{name})"
        for name in sorted(files)
        if name.endswith(".html")
    ]
    slices = (
        f"{len(report.slices)} slice{'s' if len(report.slices) > 1 else ''} in the report · " if report.slices else ""
    )
    when = f" · evaluated {report.evaluated_at[:16].replace('T', ' ')}" if report.evaluated_at else ""
    return slices + " · ".join(links) + when
