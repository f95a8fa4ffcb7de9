"""One version in an evaluation: through loading, answering, scoring, measuring and storing, to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, RegistryReadOnly
from lepton_plugins.evaluation.candidate import Candidate, Stage, failure
from lepton_plugins.evaluation.classes import align_classes
from lepton_plugins.evaluation.cost import artifact_bytes
from lepton_plugins.evaluation.dataset import EvaluationData
from lepton_plugins.evaluation.earlier import measured_report
from lepton_plugins.evaluation.environment import environment
from lepton_plugins.evaluation.evaluator import Evaluator
from lepton_plugins.evaluation.features import model_inputs
from lepton_plugins.evaluation.options import EvaluationOptions
from lepton_plugins.evaluation.predict import KINDS, predict_rows, within
from lepton_plugins.evaluation.predictions import predictions_frame, write_predictions
from lepton_plugins.evaluation.progress import Progress
from lepton_plugins.evaluation.row_metrics import quantile_levels
from lepton_plugins.evaluation.score import score, score_slices
from lepton_plugins.evaluation.slices import SliceCodes
from lepton_plugins.evaluation.version_process import VersionProcess
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.report import BatchLatency, EvaluationReport, Resources
from lepton_plugins.registry import Registry
from lepton_plugins.routing.backend import LoadedModel

if TYPE_CHECKING:
    import pandas as pd

#: What lies with whoever evaluates, and with the table, says nothing about the version: it doesn't take the place of
#: an earlier report.
_NOT_THE_VERSIONS = frozenset(
    {"trust_required", "package_missing", "backend_unseen", "classes_differ", "inputs_missing", "input_invalid"}
)

#: Rows that are answered when memory is measured.
_MEMORY_ROWS = 64


@dataclass(slots=True)
class Setting:
    """What all versions of one evaluation share.

    `kept` holds the slice and context columns, which go into the file of predictions; `roles` are
    columns that aren't features; `groups` (n,) numbers the units from 0.
    """

    registry: Registry
    data: EvaluationData
    slices: Mapping[tuple[str, ...], SliceCodes]
    slicings: Sequence[str]
    kept: pd.DataFrame
    roles: set[str]
    options: EvaluationOptions
    evaluators: Mapping[str, Evaluator]
    progress: Progress
    groups: NDArray[Any] | None = None


class Trial:
    """One version through its stages. After a failure the later stages do nothing."""

    def __init__(self, shared: Setting, candidate: Candidate, folder: Path) -> None:
        self.shared = shared
        self.candidate = candidate
        self.folder = folder
        folder.mkdir(parents=True)
        self.files: dict[str, Path] = {}
        self.model: LoadedModel | None = None
        self.output: NDArray[Any] | None = None
        data, version, inspection = shared.data, candidate.version, candidate.inspection
        self.report = EvaluationReport(
            model=version.model,
            version=version.version,
            label=version.label,
            artifact_digest=candidate.digest,
            dataset=data.dataset,
            task=data.task,
            target=data.target_column,
            signature=candidate.given or candidate.signature,
            backend=candidate.backend,
            format=inspection.format if inspection else None,
            carries_code=inspection.carries_code if inspection else False,
            environment=environment(),
            failure=candidate.failure,
            notes=(*data.notes, *candidate.notes),
            evaluated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _set(self, *notes: str, **fields: Any) -> None:
        self.report = self.report.model_copy(update={"notes": (*self.report.notes, *notes), **fields})

    def predict(self) -> None:
        """Load the version and let it answer all rows."""
        if not self.report.ok:
            return
        candidate, options, data, progress = self.candidate, self.shared.options, self.shared.data, self.shared.progress
        version = candidate.version
        stage: Stage = "load"
        progress.stage(version, "load")
        try:
            self.model = model = candidate.load(options)
            stage = "predict"
            self._follow_signature(model)
            if candidate.process is not None:
                self._measure_memory(candidate.process)
            progress.stage(version, "predict", data.rows)
            output, kind, why = predict_rows(
                model,
                candidate.inputs,
                data.rows,
                data.task,
                version.version,
                chunk=options.chunk_rows,
                time_limit=options.time_limit,
                advance=lambda done: progress.advance(version, done),
            )
            self._take(output, kind, why, model)
        except LeptonError as error:
            self._set(failure=failure(stage, error))

    @property
    def _few(self) -> dict[str, NDArray[Any]]:
        return {name: values[:_MEMORY_ROWS] for name, values in self.candidate.inputs.items()}

    def _measure_memory(self, process: VersionProcess) -> None:
        """Of a fresh process with the version and a few rows: not with the whole table."""
        few = self._few
        number, kinds = self.candidate.version.version, KINDS[self.shared.data.task]
        limit = self.shared.options.time_limit
        peak, gpu = within(limit, number, "predict", lambda: process.memory(few, kinds))
        self._set(resources=Resources(peak_memory=peak, gpu_memory=gpu))

    def _follow_signature(self, model: LoadedModel) -> None:
        """A loaded model knows its signature best."""
        candidate = self.candidate
        if model.signature is None or model.signature == candidate.signature:
            return
        assumed = set(candidate.notes)
        candidate.signature = model.signature
        candidate.inputs, candidate.given, candidate.notes = model_inputs(
            self.shared.data.frame,
            model.signature,
            candidate.version.version,
            self.shared.roles,
            set(self.shared.kept.columns),
        )
        kept = (note for note in self.report.notes if note not in assumed)
        self._set(signature=candidate.given, notes=(*kept, *candidate.notes))

    def _take(self, output: NDArray[Any], kind: OutputKind, why: str, model: LoadedModel) -> None:
        data = self.shared.data
        classes: tuple[str, ...] = ()
        notes: list[str] = []
        if data.task == "classification":
            number = self.candidate.version.version
            output, classes, notes = align_classes(output, kind, model.classes, data.classes, number)
            if kind == "label":
                notes.append(f"scored by its labels, without AUC, log loss, Brier score and calibration. {why}")
        if data.task == "regression" and output.ndim == 2:
            classes = self._quantiles(output.shape[1])
        self.output = output
        self._set(*notes, output=kind, classes=classes)

    def _quantiles(self, columns: int) -> tuple[str, ...]:
        """Names of the columns of a version that gives several numbers a row, where they are quantiles."""
        if self.shared.options.quantiles:
            return tuple(f"{level:g}" for level in self.shared.options.quantiles)
        names = tuple(field.name for field in self.report.signature.outputs) if self.report.signature else ()
        return names if len(names) == columns and quantile_levels(names) else ()

    def score(self) -> None:
        """Quality with intervals, overall and by slice, and the file of predictions."""
        if not self.report.ok or self.output is None:
            return
        shared, data, report, options = self.shared, self.shared.data, self.report, self.shared.options
        assert report.output is not None
        version = self.candidate.version
        shared.progress.stage(version, "score")
        try:
            metrics = score(
                data.task,
                data.target,
                self.output,
                report.output,
                report.classes,
                groups=shared.groups,
                level=options.level,
            )
            slices = score_slices(
                data.task,
                data.target,
                self.output,
                report.output,
                report.classes,
                slices=shared.slices,
                groups=shared.groups,
                level=options.level,
            )
        except LeptonError as error:
            self._set(failure=failure("score", error))
            return
        self._set(metrics=metrics, slices=slices)

    def cost(self) -> None:
        """Latency by batch size, bytes, parameters."""
        if self.model is None:
            return
        if self.candidate.process is not None and self.report.ok and self.report.output is not None:
            self.shared.progress.stage(self.candidate.version, "cost")
            self._measure(self.candidate.process, self.report.output)
        self.model.close()
        self.model = None

    def _measure(self, process: VersionProcess, output: OutputKind) -> None:
        candidate, options = self.candidate, self.shared.options
        number, limit = candidate.version.version, options.time_limit

        def time() -> tuple[BatchLatency, ...]:
            return process.latency(candidate.inputs, output, seconds=options.cost_seconds)

        self._set_resources(artifact_bytes=artifact_bytes(candidate.folder))
        try:
            self._set(latency=within(limit, number, "be timed", time))
            self._set_resources(parameters=within(limit, number, "be counted", process.parameters))
            estimate = within(limit, number, "be sized for a GPU", lambda: process.gpu_estimate(self._few))
            self._set_resources(gpu_estimate=estimate)
        except LeptonError as error:
            self._set(f"{'parameters weren' if self.report.latency else 'latency wasn'}'t measured: {error}")

    def _set_resources(self, **measured: Any) -> None:
        self._set(resources=self.report.resources.model_copy(update=measured))

    def write(self) -> None:
        """Write predictions and picture, let the evaluators add their files."""
        from lepton_plugins.evaluation.chart import report_png

        shared, data, report = self.shared, self.shared.data, self.report
        shared.progress.stage(self.candidate.version, "save")
        if not report.ok or self.output is None or report.output is None:
            return
        frame = predictions_frame(
            row_id=data.row_id,
            target=data.target,
            output=self.output,
            kind=report.output,
            classes=report.classes,
            groups=data.groups,
            columns=shared.kept,
        )
        path = write_predictions(frame, self.folder, shared.slicings)
        self.files[path.name] = path
        chart = report_png(report, self.folder / "chart.png")
        self.files[chart.name] = chart
        for name, evaluator in shared.evaluators.items():
            to = self.folder / name
            to.mkdir()
            try:
                self.files.update(evaluator.evaluate(self.report, frame, to))
            except Exception as error:  # A plugin's fault must not cost the measurements.
                self._set(
                    f"the evaluator {name!r} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
                )

    def store(self) -> EvaluationReport:
        """Store the report with its files; returns it with its run, or with a note why there is none."""
        shared = self.shared
        version = self.candidate.version
        failed = self.report.failure
        if failed is not None and failed.code in _NOT_THE_VERSIONS:
            earlier = measured_report(shared.registry, version.model, version.version)
            if earlier is not None:
                self._set(f"not stored: its earlier report stays (on {earlier.dataset.name!r})")
                return self.report
        try:
            return shared.registry.save_report(self.report, self.files)
        except RegistryReadOnly as error:
            self._set(f"not stored: {error}")
            return self.report
