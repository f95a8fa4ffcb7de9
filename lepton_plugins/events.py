"""Telling the plugins what happened (`lepton_event`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lepton_plugins.errors import LeptonError
from lepton_plugins.plugins import plugins
from lepton_plugins.records.event import Event, EventKind
from lepton_plugins.records.plan import Activation
from lepton_plugins.records.report import EvaluationReport


def tell(kind: EventKind, model: str, version: str | None = None, **detail: Any) -> None:
    """Something happened to a model; `detail` are plain JSON values."""
    plugins().tell(Event(kind=kind, model=model, version=version, detail=detail))


@contextmanager
def failures_told(model: str, action: str) -> Iterator[None]:
    """A LeptonError that leaves the block is told as `failed`, and goes on."""
    try:
        yield
    except LeptonError as error:
        tell("failed", model, action=action, code=error.code, reason=str(error))
        raise


def tell_evaluated(report: EvaluationReport) -> None:
    """A version has a report; one that says that the version failed is told as `failed`."""
    if report.failure is not None:
        tell("failed", report.model, report.version, action="evaluate", **report.failure.model_dump())
        return
    metrics = {name: estimate.value for name, estimate in report.metrics.items()}
    tell("evaluated", report.model, report.version, run_id=report.run_id, metrics=metrics)


def tell_activated(kind: EventKind, activation: Activation) -> Activation:
    """Another plan is in force; returns the activation."""
    tell(
        kind,
        activation.model,
        revision=activation.to_number,
        digest=activation.to_digest,
        action=activation.action,
        who=activation.who,
        why=activation.why,
    )
    return activation
