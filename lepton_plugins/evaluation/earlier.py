"""The report that a version has already: what takes its place must say more than it."""

from __future__ import annotations

from lepton_plugins.evaluation.latest import latest_report
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.registry import Registry


def measured_report(registry: Registry, model: str, version: str) -> EvaluationReport | None:
    """The version's latest report if it holds what Lepton measured; None if it failed, or can't be read."""
    report = latest_report(registry, model, version)
    return report if isinstance(report, EvaluationReport) and report.ok and not report.taken_over else None
