"""From the trained files to a plan in force, through the public Python API; what is there already is used again."""

from __future__ import annotations

import logging
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from lepton_plugins.atomic_file import write_atomically
from lepton_plugins.errors import ModelNotFound
from lepton_plugins.quickstart.flights import EVALUATION, TARGET
from lepton_plugins.quickstart.steps import Step, Steps
from lepton_plugins.quickstart.versions import RECIPES
from lepton_plugins.quickstart.workspace import Workspace
from lepton_plugins.routing.directory import write_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from lepton_plugins.api import ModelRegistry
    from lepton_plugins.evaluation.progress import Stage
    from lepton_plugins.planning.planned import PlannedDeployment
    from lepton_plugins.records.plan import DeploymentPlan
    from lepton_plugins.records.report import EvaluationReport
    from lepton_plugins.records.version import ModelVersion

MODEL = "flights"
DATASET = "flights-september-october"


def open_registry(workspace: Workspace) -> ModelRegistry:
    """The embedded registry: an sqlite database, artifacts beside it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from lepton_plugins.api import ModelRegistry

    if not (workspace.root / "mlflow.db").exists():
        # MLflow puts a new database's artifacts below the current directory unless it is told where.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        SqlAlchemyStore(workspace.registry_uri, workspace.artifacts.as_uri())
    return ModelRegistry(workspace.registry_uri)


def register(registry: ModelRegistry, workspace: Workspace, steps: Steps) -> None:
    """Each file as a version of the model, under its label."""
    with steps.step("Register") as step:
        try:
            known = {version.label for version in registry.list_versions(MODEL)}
        except ModelNotFound:
            known = set()
        for recipe in RECIPES:
            if recipe.label in known:
                continue
            step.now(recipe.label)
            registry.register_model(
                MODEL,
                workspace.model_file(recipe.label),
                model_version=recipe.label,
                model_framework="onnx",
                model_metadata={"description": recipe.summary, "trained on": str(recipe.period)},
            )
        new = len(RECIPES) - len(known)
        step.say(f"{new} versions of {MODEL!r} in {workspace.registry_uri}" if new else "found")


def evaluate(registry: ModelRegistry, flights: pd.DataFrame, cost_seconds: float, steps: Steps) -> None:
    """Every version on the same flights, which none of them has seen, by carrier.

    Latency is measured for `cost_seconds` a version.
    """
    from lepton_plugins.evaluation.dataset import read_evaluation_data
    from lepton_plugins.evaluation.options import EvaluationOptions

    with steps.step("Evaluate") as step:
        digest = read_evaluation_data(flights, target=TARGET, task="classification").dataset.digest
        reports = registry.reports(MODEL)
        if len(reports) == len(RECIPES) and all(report.ok and report.dataset.digest == digest for report in reports):
            step.say("reports found")
            return
        reports = registry.evaluate(
            MODEL,
            flights,
            target=TARGET,
            task="classification",
            slices=["carrier"],
            options=EvaluationOptions(dataset_name=DATASET, cost_seconds=cost_seconds),
            progress=_Watching(step),
        )
        for report in reports:
            if report.failure is not None:
                steps.note(f"  {report.label}: {report.failure.reason}")
        losses = ", ".join(f"{report.label} {report.metrics['log_loss'].value:.4f}" for report in reports if report.ok)
        step.say(f"{len(flights):,} flights of {EVALUATION} by carrier; log loss {losses}")


def draw(registry: ModelRegistry, workspace: Workspace) -> None:
    """The versions side by side, by carrier, as a picture."""
    from lepton_plugins.evaluation.chart import comparison_png

    comparison_png(registry.compare(MODEL, by="carrier"), workspace.chart)


def plan(registry: ModelRegistry, workspace: Workspace, steps: Steps) -> DeploymentPlan:
    """The plan file as the plan in force, which it gives."""
    text = files("lepton_plugins.quickstart").joinpath("plan.yaml").read_text(encoding="utf-8")
    write_atomically(workspace.plan_file, text.encode())
    with steps.step("Plan") as step:
        in_force = registry.registry.plan_in_force(MODEL)
        if in_force is not None and not registry.diff_with(workspace.plan_file).changes:
            step.say(f"revision #{in_force.number} found in force")
            return registry.registry.get_plan(in_force)[0]
        planned = registry.plan(workspace.plan_file)
        activation = registry.promote(MODEL, why="quickstart")
        step.say(f"revision #{activation.to_number} promoted: {_who_answers(planned)}. {planned.verdict}")
    for warning in planned.plan.warnings:
        steps.note(f"  note: {warning}")
    return planned.plan


def deploy_alone(registry: ModelRegistry, to: Path) -> None:
    """Every version in one deployment, for whoever asks for it by name: what single versions are measured on.

    The plan in force may leave versions out. This one is never stored: it is made for the comparison only.
    """
    versions = registry.list_versions(MODEL)
    shares = {version.version: 1 / len(versions) for version in versions}
    policy = {"kind": "weighted", "params": {"shares": shares}}
    planned = registry.plan({"model": MODEL, "policy": policy}, save=False)
    shutil.rmtree(to, ignore_errors=True)
    for arm in planned.plan.arms:
        files_of = to / "models" / arm.artifact_digest.removeprefix("sha256:")
        files_of.mkdir(parents=True)
        registry.registry.fetch(registry.registry.get_version(MODEL, arm.version), files_of)
    write_plan(planned.plan, planned.files, to)


def _who_answers(planned: PlannedDeployment) -> str:
    """`v3 for EV, AA; v1 for DL; v2 for the others`, largest carriers first."""
    labels = {arm.version: arm.label or arm.version for arm in planned.plan.arms}
    elsewhere: dict[str, list[str]] = {}
    for segment in sorted(planned.segments, key=lambda segment: -segment.traffic):
        version = max(segment.shares, key=lambda version: segment.shares[version])
        if version != planned.plan.default:
            elsewhere.setdefault(version, []).append(segment.segment)
    parts = [f"{labels[version]} for {', '.join(segments)}" for version, segments in elsewhere.items()]
    return "; ".join([*parts, f"{labels[planned.plan.default]} for {'the others' if parts else 'all'}"])


class _Watching:
    """An evaluation's progress as words behind the step's title."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def begin(self, versions: Sequence[ModelVersion], rows: int) -> None: ...

    def stage(self, version: ModelVersion, stage: Stage, total: int = 0) -> None:
        self._step.now(f"{version.label}, {stage}")

    def advance(self, version: ModelVersion, done: int) -> None: ...

    def finish(self, version: ModelVersion, report: EvaluationReport) -> None: ...
