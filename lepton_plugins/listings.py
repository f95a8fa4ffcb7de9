"""Which columns the registry's records are shown with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lepton_plugins.evaluation.interval_text import interval_text
from lepton_plugins.listing import Column, Listing
from lepton_plugins.records.plan import Activation
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.registry import ModelSummary

#: Of a version's metadata: so many pairs, and so many characters of each.
_PAIRS, _PAIR = 6, 28


def models_listing(models: Sequence[ModelSummary]) -> Listing[ModelSummary]:
    """Registered models."""
    columns: list[Column[ModelSummary]] = [
        Column("model", lambda model: model.model),
        Column("versions", lambda model: str(model.versions), figures=True),
        Column("latest", lambda model: model.latest, figures=True),
        Column("plan in force", lambda model: model.in_force),
        Column("description", lambda model: _first_line(model.description)),
    ]
    return Listing(models, columns, empty="No models are registered here.")


def versions_listing(versions: Sequence[ModelVersion]) -> Listing[ModelVersion]:
    """Versions with the columns that people look for."""
    columns: list[Column[ModelVersion]] = [
        Column("version", lambda version: version.version, figures=True),
        Column("label", lambda version: version.label),
        Column("framework", lambda version: version.framework or ", ".join(version.flavors)),
        Column("aliases", lambda version: ", ".join(version.aliases)),
        Column("digest", lambda version: short_digest(version.artifact_digest)),
        Column("metadata", lambda version: "\n".join(_pairs(version.metadata)), cut=True),
        Column("status", lambda version: version.status if version.status != "READY" else None),
    ]
    return Listing(versions, columns, empty="This model has no versions.")


def reports_listing(
    reports: Sequence[EvaluationReport], unreadable: Mapping[str, str] | None = None
) -> Listing[EvaluationReport]:
    """Reports with their leading metrics, latency and size; of a failed one, the stage that it failed at.

    `unreadable`: version → why its report can't be read.
    """
    leading = _leading_metrics(reports)
    # Why is a sentence or more: it would leave the figures no room. The command says it below the table.
    failed: Column[EvaluationReport] = Column(
        "failed to", lambda report: report.failure.stage if report.failure else None
    )
    columns: list[Column[EvaluationReport]] = [
        Column("version", lambda report: f"{report.version} ({report.label})" if report.label else report.version),
        *(Column(name, _metric_cell(name, name == leading[0]), figures=True) for name in leading),
        Column("p50", lambda report: _milliseconds(report.latency[0].p50_ms) if report.latency else None, figures=True),
        Column("size", lambda report: size(report.resources.artifact_bytes), figures=True),
        *([] if leading else [failed]),
    ]
    notes = [f"version {version}: its report can't be read. {why}" for version, why in (unreadable or {}).items()]
    return Listing(reports, columns, empty="No version has a report.", notes=notes)


def activations_listing(activations: Sequence[Activation]) -> Listing[Activation]:
    """The audit trail's columns."""
    columns: list[Column[Activation]] = [
        Column("at", lambda entry: entry.at[:19].replace("T", " ")),
        Column("action", lambda entry: entry.action + (" (forced)" if entry.forced else "")),
        Column("from", lambda entry: short_digest(entry.from_digest)),
        Column("to", lambda entry: f"#{entry.to_number} {short_digest(entry.to_digest)}"),
        Column("who", lambda entry: entry.who),
        Column("why", lambda entry: entry.why),
    ]
    return Listing(activations, columns, empty="No plan has been in force yet.")


def short_digest(digest: str | None) -> str | None:
    """Enough of a digest to tell it from others, as people write it."""
    return None if digest is None else digest.removeprefix("sha256:")[:12]


def _milliseconds(value: float) -> str:
    return f"{value:.2g} ms" if value < 10 else f"{value:.0f} ms"


def size(value: float | None) -> str | None:
    """Bytes in binary units: 3.4 MiB."""
    if value is None:
        return None
    amount, units = float(value), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount, _ = amount / 1024, units.pop(0)
    return f"{amount:.3g} {units[0]}" if amount < 1000 else f"{amount:.0f} {units[0]}"


def _leading_metrics(reports: Sequence[EvaluationReport]) -> list[str]:
    """At most two metrics that all good reports have, the task's own first."""
    preferred = ("log_loss", "roc_auc", "rmse", "r2", "ndcg@10", "mrr")
    good = [report for report in reports if report.ok and report.metrics]
    if not good:
        return []
    shared = [name for name in good[0].metrics if all(name in report.metrics for report in good)]
    ordered = [name for name in preferred if name in shared] + [name for name in shared if name not in preferred]
    return ordered[:2]


def _metric_cell(name: str, first: bool) -> Callable[[EvaluationReport], str | None]:
    """The metric with its interval; in the first column, what a version failed to do instead."""

    def cell(report: EvaluationReport) -> str | None:
        if first and report.failure is not None:
            return f"failed to {report.failure.stage}"
        return interval_text(report.metrics[name]) if name in report.metrics else None

    return cell


def _pairs(metadata: Mapping[str, str]) -> list[str]:
    """`key=value`, the first few and of each what fits beside other columns; JSON has them in full."""
    pairs = [" ".join(f"{key}={value}".split()) for key, value in sorted(metadata.items())]
    shown = [pair if len(pair) <= _PAIR else pair[: _PAIR - 1] + "…" for pair in pairs[:_PAIRS]]
    return shown if len(pairs) <= _PAIRS else [*shown, f"… ({len(pairs) - _PAIRS} more)"]


def _first_line(text: str) -> str | None:
    """A description's first line of words, without markup comments."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line and not line.startswith("<!--")), None)
