"""MLflow's model registry as Lepton's: what MLflow already has, unchanged, and Lepton's records beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lepton_mlflow.access import Access
from lepton_mlflow.activations import Activations
from lepton_mlflow.measurements import measured
from lepton_mlflow.plans import Plans
from lepton_mlflow.purge import Purge
from lepton_mlflow.registration import Registration
from lepton_mlflow.reports import Reports
from lepton_mlflow.status import list_models, status
from lepton_mlflow.versions import Versions
from lepton_plugins.records.plan import Activation, DeploymentPlan, PlanRevision
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.registry import MeasuredRun, ModelSummary, RegistryStatus


class MlflowRegistry:
    """The registry at an MLflow URI; an empty one is MLflow's own setting. See `lepton_plugins.registry.Registry`.

    Works on a database (`sqlite:///…`) and on a server (`http://…`) alike, for versions registered by
    anyone, and changes nothing on the server. Made in microseconds: MLflow is imported on first use.
    """

    def __init__(self, uri: str = "") -> None:
        self._access = Access(uri)
        self._versions = Versions(self._access)
        self._registration = Registration(self._access, self._versions)
        self._reports = Reports(self._access, self._versions)
        self._plans = Plans(self._access)
        self._activations = Activations(self._access, self._plans)
        self._purge = Purge(self._access)

    @property
    def uri(self) -> str:
        return self._access.uri

    def status(self) -> RegistryStatus:
        return status(self._access)

    def list_models(self) -> list[ModelSummary]:
        return list_models(self._access)

    def list_versions(self, model: str) -> list[ModelVersion]:
        return self._versions.list_versions(model)

    def get_version(self, model: str, version: str) -> ModelVersion:
        return self._versions.get(model, version)

    def register(
        self, model: str, path: Path, *, framework: str | None, label: str | None, metadata: Mapping[str, str]
    ) -> ModelVersion:
        return self._registration.register(model, path, framework=framework, label=label, metadata=metadata)

    def fetch(self, version: ModelVersion, to: Path) -> str:
        return self._versions.fetch(version, to)

    def requirements(self, version: ModelVersion) -> list[str] | None:
        return self._versions.requirements(version)

    def save_report(self, report: EvaluationReport, files: Mapping[str, Path]) -> EvaluationReport:
        return self._reports.save(report, files)

    def get_report(self, model: str, version: str) -> EvaluationReport | None:
        return self._reports.get(model, version)

    def get_report_file(self, report: EvaluationReport, name: str, to: Path) -> Path | None:
        return self._reports.get_file(report, name, to)

    def measured(self, run_id: str) -> MeasuredRun:
        return measured(self._access, run_id)

    def save_plan(self, plan: DeploymentPlan, files: Mapping[str, bytes], summary: str) -> PlanRevision:
        return self._plans.save(plan, files, summary)

    def get_plan(self, revision: PlanRevision) -> tuple[DeploymentPlan, dict[str, bytes]]:
        return self._plans.get(revision)

    def list_plans(self, model: str) -> list[PlanRevision]:
        return self._plans.list_plans(model)

    def plan_in_force(self, model: str) -> PlanRevision | None:
        return self._activations.in_force(model)

    def activate(self, activation: Activation, expected: str | None, *, force: bool) -> Activation:
        return self._activations.activate(activation, expected, force=force)

    def list_activations(self, model: str) -> list[Activation]:
        return self._activations.list_activations(model)

    def repair(self, model: str, *, dry_run: bool = False) -> Sequence[str]:
        return self._activations.repair(model, dry_run=dry_run)

    def purge(self, model: str | None = None, *, dry_run: bool = False) -> Sequence[str]:
        return self._purge.run(model, dry_run=dry_run)
