"""The versions' predictions on the same rows, side by side: what policies are planned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, PredictionsUnpaired, RegistryUnreachable
from lepton_plugins.evaluation import metrics, ratio, row_metrics
from lepton_plugins.evaluation.labels import class_codes
from lepton_plugins.evaluation.predictions import FILE, Predictions, read_predictions
from lepton_plugins.evaluation.ratio import Ratio
from lepton_plugins.records.report import Dataset, EvaluationReport, Task
from lepton_plugins.registry import Registry


@dataclass(slots=True)
class PairedPredictions:
    """Per-row evidence on one dataset for k versions and n rows.

    `values` (n, k) is the row metric itself, `utility` (n, k) the same as P in about [0, 1]: for a loss
    1 - loss / (2 · baseline), so that 0.5 is the baseline's (a constant prediction), for a metric in
    [0, 1] the metric. Both are linear in the row values: means over rows are the metric's means. Where
    the metric is a ratio of sums (F1), `values` and `utility` are its first-order rows about the default
    (`ratio`), and `under` (n, k) the rows' parts of the denominator.
    `outputs` holds each version's prediction, (n,) or (n, classes). `groups` (n,) numbers the units that
    intervals cluster by, None where rows are independent. In a ranking a row stands for a whole list (one
    user's), with the context of the list's first row.
    """

    dataset: Dataset
    task: Task
    metric: str
    greater_is_better: bool
    baseline: float | None
    versions: Sequence[str]
    default: int
    values: NDArray[np.float64]
    utility: NDArray[np.float64]
    target: NDArray[Any]
    outputs: Sequence[NDArray[Any]]
    columns: Mapping[str, NDArray[Any]]
    groups: NDArray[np.intp] | None = None
    seed: int = 0
    classes: Sequence[str] = ()
    costs: NDArray[np.float64] | None = None
    """Core-seconds a row of each version (k,), NaN where it wasn't measured; None where nobody asked."""
    ratio: Ratio | None = None
    under: NDArray[np.float64] | None = None

    @property
    def rows(self) -> int:
        return int(self.values.shape[0])

    @property
    def unit(self) -> float:
        """How much utility one unit of improvement in the metric is: both are linear in the row values."""
        return 1.0 if self.baseline is None else 1.0 / (2.0 * self.baseline)

    @property
    def means(self) -> NDArray[np.float64]:
        """The metric of each version over all rows, (k,)."""
        if self.ratio is None or self.under is None:
            whole: NDArray[np.float64] = self.values.mean(axis=0)
            return whole
        under = self.under.mean(axis=0)
        over = self.ratio.over(self.values.mean(axis=0), under)
        return np.where(under > 0, over / np.where(under > 0, under, 1.0), np.nan)

    def about_default(self) -> PairedPredictions:
        """The same, the rows of a ratio of sums being those about the default."""
        if self.ratio is None or self.under is None:
            return self
        over = self.ratio.over(self.values, self.under)
        about = ratio.about(self.metric, over[:, self.default], self.under[:, self.default])
        values = about.rows(over, self.under)
        return replace(self, ratio=about, values=values, utility=values)

    def improvement(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Row by row, how much better the metric is than the default's, arms answering by `shares` (n, k)."""
        sign = 1.0 if self.greater_is_better else -1.0
        better: NDArray[np.float64] = sign * ((shares * self.values).sum(axis=1) - self.values[:, self.default])
        return better

    def measure(self, output: NDArray[Any]) -> NDArray[np.float64]:
        """The metric by row (n,) of another output of the same rows, such as a combination of the versions'."""
        if self.ratio is not None:
            return self.ratio.rows(*_parts(self.metric, self.target, output, self.classes))
        if self.task == "classification" and output.ndim == 2:
            codes = class_codes(self.target, self.classes)
            return row_metrics.classification_values(self.metric, codes, output)
        return row_metrics.row_values(self.metric, self.target, output, self.classes)

    def take(self, rows: NDArray[Any]) -> PairedPredictions:
        """A part of the rows (indices or a mask), all versions."""
        return replace(
            self,
            values=self.values[rows],
            utility=self.utility[rows],
            target=self.target[rows],
            outputs=[output[rows] for output in self.outputs],
            columns={name: column[rows] for name, column in self.columns.items()},
            groups=None if self.groups is None else self.groups[rows],
            under=None if self.under is None else self.under[rows],
        )

    @classmethod
    def without_rows(cls, versions: Sequence[str], default: str) -> PairedPredictions:
        """No evidence at all, for policies that need none."""
        return cls(
            dataset=Dataset(name="none", digest="none", rows=0),
            task="regression",
            metric="mse",
            greater_is_better=False,
            baseline=None,
            versions=list(versions),
            default=list(versions).index(default),
            values=np.zeros((0, len(versions))),
            utility=np.zeros((0, len(versions))),
            target=np.zeros(0),
            outputs=[np.zeros(0)] * len(versions),
            columns={},
        )

    def only(self, keep: Sequence[int]) -> PairedPredictions:
        """The same rows for a part of the versions, the default among them."""
        index = np.asarray(keep, dtype=np.intp)
        return replace(
            self,
            versions=[self.versions[i] for i in keep],
            default=list(keep).index(self.default),
            values=self.values[:, index],
            utility=self.utility[:, index],
            outputs=[self.outputs[i] for i in keep],
            costs=None if self.costs is None else self.costs[index],
            under=None if self.under is None else self.under[:, index],
        )


def load_predictions(registry: Registry, report: EvaluationReport) -> Predictions:
    """The predictions behind a report; PredictionsUnpaired if it has none, or none that can be read."""
    with TemporaryDirectory(prefix="lepton-") as folder:
        try:
            path = registry.get_report_file(report, FILE, Path(folder))
        except RegistryUnreachable:
            raise
        except LeptonError as error:
            raise PredictionsUnpaired(report.version, str(error).rstrip(".")) from error
        if path is None:
            raise PredictionsUnpaired(report.version, "its report has no predictions")
        try:
            return read_predictions(path, report)
        except (KeyError, ValueError, OSError) as error:
            found = str(error).strip().splitlines()[0]
            raise PredictionsUnpaired(report.version, f"their file doesn't fit the report: {found}") from error


def pair(
    reports: Sequence[EvaluationReport], predictions: Sequence[Predictions], metric: str
) -> tuple[PairedPredictions, list[PredictionsUnpaired]]:
    """Predictions side by side, and who doesn't line up with the first; that one is the default for now.

    The reports are of one dataset, task and set of classes. Columns that any version's evaluation kept are
    there for all. MetricNotByRow or UnknownMetric where the metric has no value by row and is no ratio of sums.
    """
    first, report = predictions[0], reports[0]
    measure = _measure(metric, first, report)
    columns: dict[str, NDArray[Any]] = {}
    values: list[NDArray[np.float64]] = []
    kept: list[int] = []
    unpaired = []
    for index, (one, of) in enumerate(zip(predictions, reports, strict=True)):
        if not np.array_equal(one.row_id, first.row_id) or not np.array_equal(one.target, first.target):
            reason = f"they are of other rows than those of version {report.version}"
            unpaired.append(PredictionsUnpaired(of.version, reason))
            continue
        by_row = measure(one.output)
        if not np.isfinite(by_row).all():
            reason = f"{int((~np.isfinite(by_row)).sum())} rows have no finite {metric}"
            unpaired.append(PredictionsUnpaired(of.version, reason))
            continue
        kept.append(index)
        values.append(by_row)
        columns = {**one.columns, **columns}
    table = np.stack(values, axis=1) if values else np.zeros((first.rows, 0))
    ranking = report.task == "ranking"
    rows = row_metrics.unit_rows(first.target, first.groups) if ranking and first.groups is not None else slice(None)
    summed = metric in ratio.METRICS
    under: list[NDArray[np.float64]] = []
    utility, baseline = table, None
    if summed:
        under = [_parts(metric, first.target, predictions[index].output, report.classes)[1] for index in kept]
    else:
        utility, baseline = row_metrics.utility(metric, table, first.target, report.classes)
    found = PairedPredictions(
        dataset=report.dataset,
        task=report.task,
        metric=metric,
        greater_is_better=metrics.metric(report.task, metric).greater_is_better,
        baseline=baseline,
        versions=[reports[index].version for index in kept],
        default=0,
        values=table,
        utility=utility,
        target=first.target[rows],
        outputs=[predictions[index].output[rows] for index in kept],
        columns={name: column[rows] for name, column in columns.items()},
        groups=None if ranking else first.groups,
        classes=report.classes,
        ratio=Ratio(metric, 0.0, 1.0) if summed else None,
        under=np.stack(under, axis=1) if under else None,
    )
    return found.about_default() if kept else found, unpaired


def _parts(
    metric: str, target: NDArray[Any], output: NDArray[Any], classes: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """n and d of each row, of probabilities or labels."""
    answers = output if output.ndim == 2 else class_codes(output, classes, "prediction")
    return ratio.parts(metric, class_codes(target, classes), answers)


def _measure(
    metric: str, first: Predictions, report: EvaluationReport
) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """The metric by row of any version's output; the target, the same for all, is read once."""
    if metric in ratio.METRICS:
        metrics.metric(report.task, metric, len(report.classes))
        return lambda output: _parts(metric, first.target, output, report.classes)[0]
    if report.task == "classification":
        codes = class_codes(first.target, report.classes)

        def of_classes(output: NDArray[Any]) -> NDArray[np.float64]:
            if output.ndim == 2:
                return row_metrics.classification_values(metric, codes, output)
            return row_metrics.row_values(metric, first.target, output, report.classes)

        return of_classes
    return lambda output: row_metrics.row_values(metric, first.target, output, report.classes, first.groups)
