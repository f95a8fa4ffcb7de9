"""The tags of a version that come from its report: flat ones to search by, and the index tag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lepton_mlflow.figures import headline, interval, number
from lepton_mlflow.names import KEY_LIMIT, METRIC, REPORT, key_part
from lepton_plugins.errors import RecordMismatch
from lepton_plugins.records.report import EvaluationReport

#: Flat tags beside the headline metric's. MLflow's version list shows every tag of every version: so they are few.
_FLAT = ("lepton.dataset", "lepton.task")


@dataclass(frozen=True, slots=True)
class ReportIndex:
    """The index tag: which run holds the report, of which version, with which digest."""

    model: str
    version: str
    artifact_digest: str | None
    run_id: str
    report_digest: str

    def text(self) -> str:
        value = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({"schema_version": 1, **value}, sort_keys=True)


def read_index(model: str, version: str, tags: Mapping[str, str]) -> ReportIndex | None:
    """The version's index tag; None if it has none, RecordMismatch if it speaks of another version."""
    text = tags.get(REPORT)
    if text is None:
        return None
    where, expected = f"The tag {REPORT} of version {version} of {model!r}", f"version {version} of {model!r}"
    try:
        value = json.loads(text)
        index = ReportIndex(**{name: value[name] for name in ReportIndex.__slots__})
    except (ValueError, TypeError, KeyError):
        raise RecordMismatch(where, f"something unreadable ({text[:40]!r})", expected) from None
    if (index.model, index.version) != (model, version):
        raise RecordMismatch(where, f"version {index.version} of {index.model!r}", expected)
    return index


def flat_tags(report: EvaluationReport) -> dict[str, str]:
    """Tags to search versions by; all figures are metrics of the run and of the LoggedModel."""
    tags = {"lepton.dataset": report.dataset.name, "lepton.task": report.task}
    if (name := headline(report)) is not None:
        estimate = report.metrics[name]
        tags[f"{METRIC}{key_part(name)}"[:KEY_LIMIT]] = f"{number(estimate.value)} {interval(estimate)}"
    return tags


def is_report_tag(key: str) -> bool:
    """Whether a tag comes from a report: a new report replaces them all."""
    return key in _FLAT or key == REPORT or key.startswith(METRIC)
