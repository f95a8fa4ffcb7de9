"""What Lepton asks of a registry, whoever makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lepton_plugins.records.plan import Activation, DeploymentPlan, PlanRevision
from lepton_plugins.records.record import Record
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.version import ModelVersion


class RegistryStatus(Record):
    """What `lepton doctor` shows of a registry."""

    uri: str
    reachable: bool
    version: str | None = None
    models: int | None = None
    writable: bool | None = None
    detail: str = ""


class ModelSummary(Record):
    """A registered model in `lepton list`."""

    model: str
    versions: int
    latest: str | None
    in_force: str | None = None
    """The plan in force, as `#<number> <digest>`."""
    description: str = ""


class MeasuredRun(Record):
    """What a run has already measured of a version (`lepton evaluate --from-run`)."""

    run_id: str
    metrics: dict[str, float]
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Registry(Protocol):
    """Versions, reports, plans and activations. All methods raise LeptonError subclasses only.

    Versions are named by number or by label; `get_version` takes either. Reading works on a registry
    that may not be written to; a refused write raises RegistryReadOnly and leaves nothing behind.
    """

    uri: str

    def status(self) -> RegistryStatus:
        """Never raises: an unreachable registry is a status."""
        ...

    def list_models(self) -> list[ModelSummary]: ...

    def list_versions(self, model: str) -> list[ModelVersion]:
        """By number, ascending. ModelNotFound if there is no such model."""
        ...

    def get_version(self, model: str, version: str) -> ModelVersion:
        """By number, label or alias (`@champion`)."""
        ...

    def register(
        self,
        model: str,
        path: Path,
        *,
        framework: str | None,
        label: str | None,
        metadata: Mapping[str, str],
    ) -> ModelVersion:
        """Register the model at `path` as a new version. All or nothing."""
        ...

    def fetch(self, version: ModelVersion, to: Path) -> str:
        """Copy the version's files into the empty directory `to`; returns their artefact digest.

        If the version's digest is recorded, a difference raises DigestMismatch and `to` stays empty.
        """
        ...

    def requirements(self, version: ModelVersion) -> Sequence[str] | None:
        """The lines of the version's requirements.txt, without its other files; None if it has none."""
        ...

    def save_report(self, report: EvaluationReport, files: Mapping[str, Path]) -> EvaluationReport:
        """Store a report with its files (name → local path) for good; returns it with its run id.

        Records the artefact digest on the version, and refreshes what people see in the registry's UI.
        """
        ...

    def get_report(self, model: str, version: str) -> EvaluationReport | None:
        """The version's latest report, checked; None if it has none, RecordMismatch if it isn't its own."""
        ...

    def get_report_file(self, report: EvaluationReport, name: str, to: Path) -> Path | None:
        """Download one file of a report ("predictions.parquet"); None if the report has none."""
        ...

    def measured(self, run_id: str) -> MeasuredRun:
        """The metrics that a run of the user's holds."""
        ...

    def save_plan(self, plan: DeploymentPlan, files: Mapping[str, bytes], summary: str) -> PlanRevision:
        """Store a plan with its policy files. A plan of the same digest is stored once."""
        ...

    def get_plan(self, revision: PlanRevision) -> tuple[DeploymentPlan, dict[str, bytes]]:
        """The plan and its policy files, digests checked."""
        ...

    def list_plans(self, model: str) -> list[PlanRevision]:
        """By number, ascending."""
        ...

    def plan_in_force(self, model: str) -> PlanRevision | None:
        """The revision that the model's tag names, checked."""
        ...

    def activate(self, activation: Activation, expected: str | None, *, force: bool) -> Activation:
        """Put a stored plan in force: write the audit entry, set the tag, read it back.

        `expected` is the digest that must be in force now (None: no plan yet). PlanStale if another is,
        unless `force`; PromotionLost if a concurrent promotion stands after writing.
        """
        ...

    def list_activations(self, model: str) -> list[Activation]:
        """Oldest first."""
        ...

    def repair(self, model: str, *, dry_run: bool = False) -> Sequence[str]:
        """Bring what is derived from the model's plan in force (the alias `lepton-champion`) back in line; tells what.

        With `dry_run`, what would be repaired.
        """
        ...

    def purge(self, model: str | None = None, *, dry_run: bool = False) -> Sequence[str]:
        """Remove everything that Lepton wrote (for one model or all), nothing else; tells what."""
        ...


def open_registry(uri: str | None = None) -> Registry:
    """The registry at `uri`; by default the one that the ecosystem is set up for (MLflow's own setting)."""
    from lepton_plugins.plugins import plugins

    if uri is None:
        registry: Registry = plugins().load("registry", "mlflow")("")
        return registry
    opened: Registry = plugins().by_scheme("registry", uri).load()(uri)
    return opened
