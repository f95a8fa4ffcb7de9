"""An evaluation report: what was measured of one version on one dataset."""

from __future__ import annotations

from typing import Literal

from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.records.signature import Signature

Task = Literal["classification", "regression", "ranking"]


class Estimate(Record):
    """A measured figure with its confidence interval.

    `value` is None where the metric is undefined on the rows at hand (AUC with one class only);
    `method` then says why, and the interval is the metric's whole range. `low` and `high` bound the
    interval at `level`; None where the method gives no bound on that side.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float = 0.95
    method: str
    n: int
    greater_is_better: bool


class Dataset(Record):
    """The data a report speaks of. Predictions of two versions are paired where digests are equal."""

    name: str
    digest: str
    rows: int


class Slice(Record):
    """A subset of the evaluation rows: those whose columns `by` have the values `value`."""

    by: tuple[str, ...]
    value: tuple[str, ...]
    n: int
    metrics: dict[str, Estimate]


class BatchLatency(Record):
    """Latency of one call with `batch_size` rows, in milliseconds, and rows a second."""

    batch_size: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rows_per_second: float


class Quantity(Record):
    """An amount and how it is known."""

    value: float
    how: Literal["measured", "estimated"]
    detail: str = ""


class Resources(Record):
    """What a version needs. Sizes in bytes; `peak_memory` is a fresh process's, models included."""

    artifact_bytes: int | None = None
    parameters: int | None = None
    peak_memory: Quantity | None = None
    gpu_memory: Quantity | None = None
    """What the version was seen to hold where it was evaluated; 0 where a GPU was there and it used none."""
    gpu_estimate: Quantity | None = None
    """What it would hold on a GPU, from shapes and lifetimes; whether or not that was measured, too."""


class Environment(Record):
    """Where the measurements were made."""

    python: str
    platform: str
    cpus: int
    packages: dict[str, str] = {}


class Failure(Record):
    """Why a version could not be evaluated."""

    stage: Literal["fetch", "load", "predict", "score"]
    code: str
    reason: str


class EvaluationReport(Record):
    """Quality and cost of one version. A version that failed has a report too: it says so."""

    schema_version: Literal[1] = 1
    model: str
    version: VersionNumber
    label: str | None = None
    artifact_digest: str | None = None
    dataset: Dataset
    task: Task
    target: str
    output: OutputKind | None = None
    """What the predictions are: "proba" where the version gives probabilities, else what it gave."""
    classes: tuple[str, ...] = ()
    """Class names in the order of the probability columns."""
    signature: Signature | None = None
    backend: str | None = None
    format: str | None = None
    """How the files are stored ("onnx", "skops", "pickle" …), by the backend that loaded them."""
    carries_code: bool = False
    metrics: dict[str, Estimate] = {}
    slices: tuple[Slice, ...] = ()
    latency: tuple[BatchLatency, ...] = ()
    resources: Resources = Resources()
    environment: Environment | None = None
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
    evaluated_at: str | None = None
    """UTC, ISO 8601."""
    run_id: str | None = None
    """The registry's run that holds this report and its predictions; set when it is read back."""

    @property
    def ok(self) -> bool:
        return self.failure is None

    @property
    def taken_over(self) -> bool:
        """Whether its figures are what a run of the user's held: on unknown rows, without intervals."""
        return self.dataset.digest.startswith("run:")
