"""A version's latest report, where one that can't be read costs its own version only."""

from __future__ import annotations

from lepton_plugins.errors import LeptonError, RegistryUnreachable
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.registry import Registry


def latest_report(registry: Registry, model: str, version: str) -> EvaluationReport | LeptonError | None:
    """The report, the error of reading it, or None where the version has none.

    RegistryUnreachable is raised: then nothing is known of any version.
    """
    try:
        return registry.get_report(model, version)
    except RegistryUnreachable:
        raise
    except LeptonError as error:
        return error
