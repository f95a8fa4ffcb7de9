"""The report that a version has already: what takes its place must say more than it."""

from __future__ import annotations

from lepton_plugins.errors import LeptonError, RegistryUnreachable
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.registry import Registry


def measured_report(registry: Registry, model: str, version: str) -> EvaluationReport | None:
    """The version's latest report if it holds what Lepton measured; None if it failed, or can't be read."""
    try:
        report = registry.get_report(model, version)
    except RegistryUnreachable:
        raise
    except LeptonError:
        return None
    return report if report is not None and report.ok and not report.taken_over else None
