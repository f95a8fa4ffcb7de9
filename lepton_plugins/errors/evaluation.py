"""Data, metrics and reports."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from lepton_plugins.errors.base import LeptonError, _shown, nearest


class ColumnMissing(LeptonError):
    """A table lacks a column that was named."""

    code = "column_missing"

    def __init__(self, column: str, purpose: str, columns: Iterable[str]) -> None:
        super().__init__(f"The {purpose} column {column!r} isn't in the data.{nearest(column, columns)}")


class EvidenceColumnMissing(ColumnMissing):
    """A column that a plan reads and the versions' evaluation didn't keep."""

    def __init__(self, column: str, purpose: str, columns: Iterable[str]) -> None:
        LeptonError.__init__(
            self,
            f"The {purpose} column {column!r} isn't in the data kept from the evaluation.{nearest(column, columns)} "
            f"If the evaluation's file has it: lepton evaluate … --context {shlex.quote(column)}",
        )


class DataUnreadable(LeptonError):
    """A file that isn't the table that its name says."""

    code = "data_unreadable"

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path} can't be read as a table: {reason}. Expected parquet, csv or jsonl.")


class DataEmpty(LeptonError):
    """A table without a row that could be evaluated."""

    code = "data_empty"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"There is nothing to evaluate in {name}: {reason}. Expected at least one labelled row.")


class OneClassOnly(LeptonError):
    """A classification target in which all rows have the same class."""

    code = "one_class_only"

    def __init__(self, target: str, value: str, rows: int) -> None:
        super().__init__(
            f"The target {target!r} has one class only: all {rows} labelled rows are {value!r}. "
            f"Classification needs at least two; take data that holds both, or check the column."
        )


class TargetInvalid(LeptonError):
    """A target column whose values don't fit the task."""

    code = "target_invalid"

    def __init__(self, target: str, task: str, found: str, expected: str) -> None:
        super().__init__(f"The target {target!r} doesn't fit task {task!r}: found {found}, expected {expected}.")


class TooManySlices(LeptonError):
    """A slicing with more values than a report can hold with sense."""

    code = "too_many_slices"

    def __init__(self, by: str, found: int, limit: int, hint: str) -> None:
        super().__init__(f"Slicing by {by!r} gives {found} slices, at most {limit} are kept. {hint}")


class ColumnReserved(LeptonError):
    """A column of the data whose name is taken in the file of predictions."""

    code = "column_reserved"

    def __init__(self, column: str) -> None:
        super().__init__(
            f"The column {column!r} can't be kept beside the predictions: its name is taken there. "
            f"Rename it in the data."
        )


class ClassesDiffer(LeptonError):
    """A version whose classes aren't those of the target."""

    code = "classes_differ"

    def __init__(self, version: str, found: Sequence[str], expected: Sequence[str]) -> None:
        super().__init__(
            f"Version {version} answers with the classes {_shown(found)}; the data's are {_shown(expected)}. "
            f"Label the data as the model was trained, or register a model of these classes."
        )


class OutputInvalid(LeptonError):
    """Predictions that can't be used: wrong shape, NaN or infinite."""

    code = "output_invalid"
    http_status = 422

    def __init__(self, version: str, found: str, expected: str) -> None:
        super().__init__(f"Version {version} returned {found}; expected {expected}.")


class NullUnanswered(OutputInvalid):
    """Inputs without a value for which no version that was asked has a finite answer.

    `rows` are all such rows of the request, `inputs` the nulls of the first.
    """

    def __init__(self, inputs: Sequence[str], rows: Sequence[int], versions: Sequence[str]) -> None:
        self.inputs, self.rows, self.versions = tuple(inputs), tuple(rows), tuple(versions)
        several, more = len(inputs) > 1, len(rows) - 1
        names = f"Input{'s' if several else ''} {', '.join(map(repr, inputs))} {'are' if several else 'is'} null"
        asked = f"version {versions[0]}" + (f" and the fallback {' and '.join(versions[1:])}" if versions[1:] else "")
        others = f", nor for {more:,} more row{'s' if more > 1 else ''} with a null" if more else ""
        found = f"{names} in row {rows[0]}; {asked} gave no finite answer{others}."
        LeptonError.__init__(self, f"{found} Expected a value, or a version that takes null.")


class InputsMissing(LeptonError):
    """Inputs of a version's signature that the data lacks."""

    code = "inputs_missing"

    def __init__(self, version: str, missing: Sequence[str], columns: Iterable[str]) -> None:
        hint = nearest(missing[0], columns) if len(missing) == 1 else ""
        super().__init__(
            f"Version {version} needs the input{'s' if len(missing) > 1 else ''} {_shown(missing)}, "
            f"which the data lacks.{hint}"
        )


class TimedOut(LeptonError):
    """A version that took longer than it may."""

    code = "timed_out"
    http_status = 504

    def __init__(self, version: str, action: str, seconds: float) -> None:
        super().__init__(f"Version {version} didn't {action} within {seconds:g} s and was given up.")


class ProcessDied(LeptonError):
    """A version that took its process down."""

    code = "process_died"

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(f"Version {version} took its process down when it was loaded and run: {reason}.")


class BackendUnseen(LeptonError):
    """A backend that only the evaluating process knows."""

    code = "backend_unseen"

    def __init__(self, name: str, target: str, reason: str) -> None:
        super().__init__(
            f"The backend {name!r} can't be imported from {target} in the fresh process in which a version's cost is "
            f"measured: {reason}. Put it into a module on Python's path, or evaluate without cost (--no-cost)."
        )


class NothingToCompare(LeptonError):
    """No two reports on the same data."""

    code = "nothing_to_compare"

    def __init__(self, model: str, reasons: Sequence[str]) -> None:
        why = "; ".join(reason.rstrip(".") for reason in reasons)
        super().__init__(
            f"No version of {model!r} has a report to compare: {why or 'it has no versions'}. "
            f"Run: lepton evaluate {model} --data FILE --target COL --task TASK"
        )


class UnknownMetric(LeptonError):
    """No metric of this name for the task."""

    code = "unknown_metric"

    def __init__(self, metric: str, task: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no {task} metric {metric!r}.{nearest(metric, known)}")


class MetricNotByRow(LeptonError):
    """A metric that isn't a mean over rows, where row values are needed."""

    code = "metric_not_by_row"

    def __init__(self, metric: str, by_row: Iterable[str]) -> None:
        super().__init__(
            f"{metric!r} is not a mean over rows, so it has no value for a single row; "
            f"expected one of {', '.join(sorted(by_row))}."
        )
        self.by_row = tuple(by_row)


class BaselineUndefined(LeptonError):
    """A target on which a constant prediction is perfect: no loss can be put in relation to it."""

    code = "baseline_undefined"

    def __init__(self, metric: str) -> None:
        super().__init__(
            f"The target is the same in all rows, so a constant prediction's {metric} is 0 and there is no baseline "
            f"to compare with. Use data in which the target varies."
        )


class ReportMeasured(LeptonError):
    """Figures of a run that would take the place of what Lepton measured."""

    code = "report_measured"

    def __init__(self, model: str, version: str, data: str) -> None:
        super().__init__(
            f"Version {version} of model {model!r} has a report that Lepton measured ({data}). A run's figures in its "
            f"place would have no intervals and no predictions, and no plan could be made from them. Replace it all "
            f"the same with --force (in Python: force=True)."
        )


class OutputUnavailable(LeptonError):
    """A version that can't give the kind of output asked for."""

    code = "output_unavailable"

    def __init__(self, version: str | None, wanted: str, found: str) -> None:
        name = f"Version {version}" if version else "The version"
        super().__init__(f"{name} can't give output {wanted!r}: it returns {found}.")
