"""Lepton from Python: one object over one registry.

    from lepton_plugins import ModelRegistry

    registry = ModelRegistry()                      # the registry that MLflow is set up for
    registry.register_model("churn", "model.onnx", model_version="v1", model_framework="onnx")
    registry.evaluate("churn", "holdout.parquet", target="churned", task="classification", slices=["plan"])
    registry.plan("plan.yaml")
    registry.promote("churn")
    router = registry.router("churn")

Every method raises LeptonError subclasses only, and tells the plugins what happened (`lepton_event`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lepton_plugins.errors import LeptonError
from lepton_plugins.events import failures_told, tell, tell_activated, tell_evaluated
from lepton_plugins.listing import Listing
from lepton_plugins.listings import activations_listing, models_listing, reports_listing, versions_listing
from lepton_plugins.registry import ModelSummary, Registry, open_registry

if TYPE_CHECKING:
    import pandas as pd

    from lepton_plugins.evaluation.compare import Comparison
    from lepton_plugins.evaluation.options import EvaluationOptions
    from lepton_plugins.evaluation.progress import Progress
    from lepton_plugins.planning.diff import PlanDiff
    from lepton_plugins.planning.gpu_advice import VersionAdvice
    from lepton_plugins.planning.planned import PlannedDeployment
    from lepton_plugins.planning.what_if import Margin, Scenario
    from lepton_plugins.records.plan import Activation, DeploymentPlan, PlanRevision
    from lepton_plugins.records.report import EvaluationReport, Task
    from lepton_plugins.records.spec import PlanSpec
    from lepton_plugins.records.version import ModelVersion
    from lepton_plugins.replay.report import OffPolicy
    from lepton_plugins.replay.verification import Verification
    from lepton_plugins.routing.router import Explanation, Router


class ModelRegistry:
    """A model registry with evidence, plans and routing on top.

    `uri` is a registry's address (`sqlite:///mlflow.db`, `http://host:5000`); by default MLflow's own
    setting. `registry` is what a plugin offers for that address: the full interface, below this facade.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.registry: Registry = open_registry(uri)

    @property
    def uri(self) -> str:
        return self.registry.uri

    def __repr__(self) -> str:
        return f"ModelRegistry({self.uri!r})"

    # --- versions --------------------------------------------------------------------------

    def register_model(
        self,
        model_name: str,
        model_path: str | Path,
        model_version: str | None = None,
        model_framework: str | None = None,
        model_metadata: Mapping[str, object] | None = None,
    ) -> ModelVersion:
        """Register the model at a path (a file or a directory) as a new version. All or nothing.

        `model_version` is your own label for it ("v1"), unique in the model; `model_framework` (onnx, torch,
        sklearn, tensorflow, mlflow …) is told from the files where it is left out. Metadata values are stored
        as text. Raises PathMissing, LabelTaken, RegistryReadOnly, InvalidInput.
        """
        with failures_told(model_name, "register"):
            version = self.registry.register(
                model_name,
                Path(model_path),
                framework=model_framework,
                label=model_version,
                metadata={str(key): str(value) for key, value in (model_metadata or {}).items()},
            )
        tell("registered", model_name, version.version, label=version.label, framework=version.framework)
        return version

    def list_models(self) -> Listing[ModelSummary]:
        """All registered models."""
        return models_listing(self.registry.list_models())

    def list_versions(self, model: str) -> Listing[ModelVersion]:
        """The versions of a model by number, ascending. ModelNotFound if there is no such model."""
        return versions_listing(self.registry.list_versions(model))

    # --- evidence --------------------------------------------------------------------------

    def evaluate(
        self,
        model: str,
        data: pd.DataFrame | str | Path,
        *,
        target: str,
        task: Task,
        versions: Sequence[str | int] | None = None,
        slices: Sequence[str] = (),
        context: Sequence[str] = (),
        options: EvaluationOptions | None = None,
        progress: Progress | None = None,
    ) -> Listing[EvaluationReport]:
        """Measure versions (by default all) on labelled data; a report for each is kept in the registry.

        `data` is a DataFrame or a file (parquet, csv, jsonl) with the models' inputs and the column
        `target`. A slice is a column ("carrier"), columns crossed ("carrier,origin") or quantile bins of a
        number ("distance:4"); `context` are further columns to keep beside the predictions for policies. A
        version that fails has a report that says so. Raises ColumnMissing, ModelNotFound, VersionNotFound,
        TrustRequired and the errors of reading data.
        """
        from lepton_plugins.evaluation.evaluate import evaluate

        with failures_told(model, "evaluate"):
            reports = evaluate(
                self.registry,
                model,
                data,
                target=target,
                task=task,
                versions=None if versions is None else [str(version) for version in versions],
                slices=slices,
                context=context,
                options=options,
                progress=progress,
            )
        for report in reports:
            tell_evaluated(report)
        return reports_listing(reports)

    def take_over(
        self,
        model: str,
        version: str | int,
        run_id: str,
        *,
        task: Task | None = None,
        target: str = "",
        dataset_name: str | None = None,
        force: bool = False,
    ) -> EvaluationReport:
        """Take over what a run of yours has already measured of a version, as its report.

        The figures have no intervals, since a run doesn't keep the rows that they come from. `task` is told
        from the metrics' names where it is left out; InvalidInput where that isn't clear. ReportMeasured where
        it would take the place of a report that Lepton measured, unless `force`.
        """
        from lepton_plugins.evaluation.take_over import take_over

        with failures_told(model, "evaluate"):
            report = take_over(
                self.registry,
                model,
                str(version),
                run_id,
                task=task,
                target=target,
                dataset_name=dataset_name,
                force=force,
            )
        tell_evaluated(report)
        return report

    def reports(self, model: str) -> Listing[EvaluationReport]:
        """The latest report of each version that has one; `notes` say whose can't be read, and why."""
        from lepton_plugins.evaluation.latest import latest_report

        found: list[EvaluationReport] = []
        unreadable: dict[str, str] = {}
        for version in self.registry.list_versions(model):
            report = latest_report(self.registry, model, version.version)
            if isinstance(report, LeptonError):
                unreadable[version.version] = str(report)
            elif report is not None:
                found.append(report)
        return reports_listing(found, unreadable)

    def compare(self, model: str, *, metric: str | None = None, by: str | None = None) -> Comparison:
        """The versions side by side, overall or by a slice; differences whose interval covers zero are ties.

        Raises NothingToCompare where no report can be compared, UnknownMetric, ColumnMissing.
        """
        from lepton_plugins.evaluation.compare import compare

        return compare(self.registry, model, metric=metric, by=by)

    # --- plans -----------------------------------------------------------------------------

    def plan(
        self,
        spec: PlanSpec | Mapping[str, Any] | str | Path,
        *,
        trust: Literal["pickle"] | None = None,
        save: bool = True,
    ) -> PlannedDeployment:
        """Make a plan from a plan file (a path, its content as a mapping, or a PlanSpec) and store it.

        The plan isn't in force until `promote`. `save=False` only makes it. Raises SpecInvalid, NoArmLeft,
        Infeasible, TrustRequired.
        """
        from lepton_plugins.planning.lifecycle import save as save_plan
        from lepton_plugins.planning.plan import make_plan
        from lepton_plugins.planning.spec_file import spec_of

        read = spec_of(spec)
        with failures_told(read.model, "plan"):
            planned = make_plan(self.registry, read, trust=trust)
            if save:
                revision = save_plan(self.registry, planned)
        if save:
            tell("planned", read.model, revision=revision.number, digest=revision.digest)
        return planned

    def margins(self, planned: PlannedDeployment, *, trust: Literal["pickle"] | None = None) -> tuple[Margin, ...]:
        """How much of each budgeted resource a plan uses, and what one more unit of it would be worth."""
        from lepton_plugins.planning.what_if import margins

        return margins(self.registry, planned, trust=trust)

    def gpu_advice(self, planned: PlannedDeployment, accelerator: str) -> tuple[VersionAdvice, ...]:
        """Which share of an accelerator, such as nvidia-a100-40gb, each version of a plan wants."""
        from lepton_plugins.planning.gpu_advice import gpu_advice

        return gpu_advice(self.registry, planned, accelerator)

    def what_if(
        self, planned: PlannedDeployment, changes: Sequence[str], *, trust: Literal["pickle"] | None = None
    ) -> tuple[Scenario, ...]:
        """A plan beside those with other resources, each change such as `load=400/s,memory=8Gi`; nothing is stored."""
        from lepton_plugins.planning.what_if import what_if

        return what_if(self.registry, planned, changes, trust=trust)

    def diff(self, model: str, old: str | int | None = None, new: str | int | None = None) -> PlanDiff:
        """What changes from one plan revision to another: numbers or digests.

        Without revisions: from the plan in force to the latest one; with one: from the plan in force to it.
        """
        from lepton_plugins.planning.diff import diff

        if new is None:
            return diff(self._in_force(model), self.plan_of(model, old))
        return diff(self.plan_of(model, old), self.plan_of(model, new))

    def diff_with(
        self, spec: PlanSpec | Mapping[str, Any] | str | Path, *, trust: Literal["pickle"] | None = None
    ) -> PlanDiff:
        """What promoting a plan made of this plan file would change; nothing is stored."""
        from lepton_plugins.planning.diff import diff

        planned = self.plan(spec, trust=trust, save=False)
        return diff(self._in_force(planned.plan.model), planned.plan)

    def plan_of(self, model: str, revision: str | int | None = None) -> DeploymentPlan:
        """A stored plan by number or digest (its beginning is enough); by default the latest."""
        return self.registry.get_plan(self.revision(model, revision))[0]

    def revision(self, model: str, revision: str | int | None = None) -> PlanRevision:
        """A stored revision by number or digest (its beginning is enough); by default the latest."""
        from lepton_plugins.planning.lifecycle import find

        return find(self.registry, model, revision)

    def promote(
        self, model: str, revision: str | int | None = None, *, why: str = "", force: bool = False
    ) -> Activation:
        """Put a stored plan (by default the latest that hasn't been) in force.

        NothingToPromote; PlanStale if the plan in force isn't the one that it was planned on (`force` goes ahead);
        PromotionLost if a concurrent promotion stands.
        """
        from lepton_plugins.planning.lifecycle import promote

        with failures_told(model, "promote"):
            activation = promote(self.registry, model, revision=revision, why=why, force=force)
        return tell_activated("promoted", activation)

    def rollback(self, model: str, *, to: str | int | None = None, why: str = "") -> Activation:
        """Put the plan that was in force before (or the revision `to`) back in force. NothingToRollBack."""
        from lepton_plugins.planning.lifecycle import rollback

        with failures_told(model, "rollback"):
            activation = rollback(self.registry, model, to=to, why=why)
        return tell_activated("rolled_back", activation)

    def pin(
        self, model: str, version: str | int, *, why: str = "", trust: Literal["pickle"] | None = None
    ) -> Activation:
        """Send all traffic to one version until `unpin`, another pin, or a promotion.

        `trust` is for a version that isn't in the plan in force. NoArmLeft or ArmMissing where it can't be.
        """
        from lepton_plugins.planning.lifecycle import pin

        with failures_told(model, "pin"):
            activation = pin(self.registry, model, str(version), why=why, trust=trust)
        return tell_activated("promoted", activation)

    def unpin(self, model: str, *, why: str = "") -> Activation:
        """Put the plan that the pin replaced back in force. NotPinned if there is no pin."""
        from lepton_plugins.planning.lifecycle import unpin

        with failures_told(model, "unpin"):
            activation = unpin(self.registry, model, why=why)
        return tell_activated("promoted", activation)

    def history(self, model: str) -> Listing[Activation]:
        """The audit trail: every activation, oldest first."""
        from lepton_plugins.planning.lifecycle import history

        return activations_listing(history(self.registry, model))

    # --- deployment ------------------------------------------------------------------------

    def pull(self, model: str, to: str | Path, *, revision: str | int | None = None) -> Path:
        """Make the plan in force (or a revision) a deployment directory; every digest is checked.

        Files that are there already, with the right digest, aren't fetched again.
        """
        from lepton_plugins.routing.directory import pull

        chosen = None if revision is None else self.revision(model, revision)
        with failures_told(model, "pull"):
            return pull(self.registry, model, Path(to), revision=chosen)

    def generate(
        self, directory: str | Path, target: str, to: str | Path, options: Mapping[str, Any] | None = None
    ) -> list[Path]:
        """Render a deployment directory for a target (bentoml, kserve …) into `to`: a new or empty directory, or what
        was rendered there before.

        Returns the files, relative to `to`. UnknownPlugin if no plugin offers the target; InvalidInput for
        an option that the target doesn't know; PlaceTaken where `to` holds anything else.
        """
        from lepton_plugins.generate import generate

        return generate(Path(directory), target, Path(to), options or {}, registry=self.uri).files

    def router(self, model: str, *, directory: str | Path | None = None, threads: int | None = None) -> Router:
        """The router of the plan in force, over a deployment directory (by default one that goes with the router).

        `router.predict(data)`, `router.decide(context)`, `router.explain(context)`; close it when done.
        """
        from lepton_plugins.routing.router import Router
        from lepton_plugins.routing.temporary import temporary_router

        if directory is not None:
            return Router.load(self.pull(model, directory), threads=threads)
        return temporary_router(lambda folder: self.pull(model, folder), threads)

    def explain(self, model: str, context: Mapping[str, Any], *, key: object = None) -> Explanation:
        """Which version would answer this row under the plan in force, and why each other one wouldn't."""
        from tempfile import TemporaryDirectory

        with (
            TemporaryDirectory(prefix="lepton-") as folder,
            self.router(model, directory=Path(folder) / "deployment") as router,
        ):
            return router.explain(context, key=key)

    def verify(self, log: str | Path) -> Verification:
        """Make the decisions of a log once more, each under the plan that made it: they must come out the same."""
        from lepton_plugins.replay.replay import plans_of, replay

        return replay(log, plans_of(self.registry))

    def replay(
        self,
        log: str | Path,
        plan: PlanSpec | Mapping[str, Any] | str | Path,
        *,
        trust: Literal["pickle"] | None = None,
    ) -> OffPolicy:
        """What another plan (a plan file, its content, a deployment directory) would have earned on a decision log.

        Without estimates where the log doesn't support them; `refusal` says why. NoRewards, ReplayImpossible,
        ContextNotLogged, LogUnreadable, and what `plan` raises.
        """
        from lepton_plugins.replay.replay import plan_in, replay_as

        if isinstance(plan, str | Path) and Path(plan).is_dir():
            return replay_as(log, *plan_in(Path(plan)))
        planned = self.plan(plan, trust=trust, save=False)
        return replay_as(log, planned.plan, planned.files)

    # --- housekeeping ----------------------------------------------------------------------

    def purge(self, model: str | None = None, *, dry_run: bool = False) -> list[str]:
        """Remove everything that Lepton wrote (for one model, or all), nothing else; tells what."""
        return list(self.registry.purge(model, dry_run=dry_run))

    def _in_force(self, model: str) -> DeploymentPlan | None:
        in_force = self.registry.plan_in_force(model)
        return self.registry.get_plan(in_force)[0] if in_force is not None else None
