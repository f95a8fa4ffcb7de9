"""Every failure that Lepton reports on purpose: one class per fact.

A class takes the facts and writes its own sentence: what was found, what was expected, what to do
next. `code` is stable and appears in the CLI's JSON, in the data plane's error bodies and in logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lepton_plugins.records.plan import Gain


class LeptonError(Exception):
    """Base of all errors that are meant for a user; anything else is a bug in Lepton."""

    code = "lepton_error"
    #: Process exit code of the CLI: 2 for usage and input, 1 where a check or gate said no.
    exit_code = 2
    #: HTTP status of the data plane.
    http_status = 400


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: `" Did you mean 'x'?"`, or the known names, or an empty string."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    if not names:
        return ""
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f" Known: {shown}."


def _shown(names: Iterable[str], limit: int = 12) -> str:
    """The first names of many, or `nothing`."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:limit]) + (", …" if len(listed) > limit else "") if listed else "nothing"


class InvalidInput(LeptonError):
    """An argument, a file or a field that cannot be used as given; the message carries the facts."""

    code = "invalid_input"


class PathMissing(LeptonError):
    """A path that a user named does not exist."""

    code = "path_missing"

    def __init__(self, path: object, purpose: str) -> None:
        super().__init__(f"{purpose}: no such file or directory: {path}. Check the path and try again.")


class PackageMissing(LeptonError):
    """A feature needs a package that isn't installed here."""

    code = "package_missing"

    def __init__(self, package: str, needed_for: str, install: str) -> None:
        super().__init__(f"{needed_for} needs the package {package!r}, which isn't installed here. Run: {install}")
        self.package = package


# --- plugins -----------------------------------------------------------------------------------


class UnknownPlugin(LeptonError):
    """No loaded plugin offers this name."""

    code = "unknown_plugin"

    def __init__(self, family: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        hint = nearest(name, known) if known else f" None that is installed here offers any {family}."
        super().__init__(f"No plugin offers the {family} {name!r}.{hint} `lepton plugins` lists them.")


class PluginClash(LeptonError):
    """Two distributions offer the same name in the same family."""

    code = "plugin_clash"

    def __init__(self, family: str, name: str, providers: Sequence[str]) -> None:
        super().__init__(
            f"The {family} {name!r} is offered by {' and by '.join(providers)}. "
            f"Names are unique: uninstall one of the two, or ask its author to rename it."
        )


class PluginInvalid(LeptonError):
    """A plugin's hook returned something that isn't the record that the hook asks for."""

    code = "plugin_invalid"

    def __init__(self, plugin: str, hook: str, found: object, expected: str) -> None:
        super().__init__(f"Plugin {plugin!r}, hook {hook}: returned {found!r}, expected {expected}.")


class TargetBroken(LeptonError):
    """What a plugin offers can't be imported, though its packages are there."""

    code = "target_broken"

    def __init__(self, name: str, target: str, reason: str) -> None:
        super().__init__(
            f"The plugin's {name!r} can't be imported from {target}: {reason}. "
            f"`lepton plugins` tells which distribution it comes from; tell its author."
        )


# --- registry ----------------------------------------------------------------------------------


class RegistryUnreachable(LeptonError):
    """The registry did not answer."""

    code = "registry_unreachable"

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"The registry at {uri} doesn't answer: {reason}. "
            f"Check the address (--registry, or MLFLOW_TRACKING_URI) and that the server runs."
        )


class RegistryReadOnly(LeptonError):
    """A write that the registry refused for lack of permission."""

    code = "registry_read_only"

    def __init__(self, uri: str, action: str) -> None:
        super().__init__(
            f"The registry at {uri} doesn't let you {action}: permission denied. "
            f"Reading still works; ask for EDIT permission, or write to a registry of your own with --registry."
        )


class RegistryForbidden(LeptonError):
    """A read that the registry refused."""

    code = "registry_forbidden"

    def __init__(self, uri: str, action: str, reason: str) -> None:
        super().__init__(
            f"The registry at {uri} doesn't let you {action}: {reason}. "
            f"Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), or ask for "
            f"READ permission."
        )


class RegistryFailed(LeptonError):
    """The registry answered, but with an error of its own."""

    code = "registry_failed"

    def __init__(self, uri: str, action: str, reason: str) -> None:
        super().__init__(f"The registry at {uri} failed to {action}: {reason}")


class RecordDeleted(LeptonError):
    """A place of Lepton's records that somebody deleted in the registry."""

    code = "record_deleted"

    def __init__(self, what: str, restore: str) -> None:
        super().__init__(
            f"{what} was deleted in the registry. Restore it ({restore}), or run `lepton purge` to start anew."
        )


class LabelAmbiguous(LeptonError):
    """A label that several versions carry, because tags were edited by hand."""

    code = "label_ambiguous"

    def __init__(self, model: str, label: str, versions: Sequence[str]) -> None:
        super().__init__(
            f"The label {label!r} of model {model!r} is carried by versions {', '.join(versions)}, expected one. "
            f"Name the version by its number, or correct the tag lepton.label."
        )
        self.versions = tuple(versions)


class UnknownFramework(LeptonError):
    """A framework that Lepton has no layout for."""

    code = "unknown_framework"

    def __init__(self, framework: str, known: Iterable[str]) -> None:
        super().__init__(
            f"Unknown framework {framework!r}.{nearest(framework, known)} A model of any other framework is "
            f"registered from an MLflow model directory (`mlflow.<flavor>.save_model`, `mlflow.pyfunc.save_model`)."
        )


class FrameworkUnclear(LeptonError):
    """Files from which the framework can't be told."""

    code = "framework_unclear"

    def __init__(self, path: object, found: str, known: Iterable[str]) -> None:
        super().__init__(
            f"{path}: the framework can't be told from these files: {found}. "
            f"Name it with --framework: {', '.join(sorted(known))}."
        )


class FrameworkMismatch(LeptonError):
    """Files that aren't what the named framework stores."""

    code = "framework_mismatch"

    def __init__(self, path: object, framework: str, found: str, expected: str) -> None:
        super().__init__(f"{path}: found {found}, expected {expected} for the framework {framework!r}.")


class RecordTooLong(LeptonError):
    """A value beyond what the registry stores in its place."""

    code = "record_too_long"

    def __init__(self, what: str, found: int, limit: int) -> None:
        super().__init__(f"{what}: found {found:,} characters, expected at most {limit:,}. Shorten it.")


class ModelNotFound(LeptonError):
    """No registered model of this name."""

    code = "model_not_found"
    http_status = 404

    def __init__(self, model: str, known: Iterable[str] = ()) -> None:
        super().__init__(f"No registered model {model!r}.{nearest(model, known)} `lepton list` shows what there is.")


class VersionNotFound(LeptonError):
    """The model has no version of this number or label."""

    code = "version_not_found"
    http_status = 404

    def __init__(self, model: str, version: str, known: Sequence[str]) -> None:
        shown = ", ".join(known) if known else "none"
        super().__init__(f"Model {model!r} has no version {version!r}. Versions: {shown}.")


class LabelTaken(LeptonError):
    """A label that already names another version of the model."""

    code = "label_taken"

    def __init__(self, model: str, label: str, version: str) -> None:
        super().__init__(
            f"Model {model!r} already has the label {label!r} (version {version}). "
            f"Nothing was registered. Choose another label, or delete that version first."
        )


class DigestMismatch(LeptonError):
    """Files whose digest isn't the recorded one."""

    code = "digest_mismatch"

    def __init__(self, what: str, found: str, expected: str) -> None:
        super().__init__(
            f"{what}: the files' digest is {found[:19]}…, expected {expected[:19]}…. They changed after they "
            f"were recorded; evaluate and plan again, or restore the recorded files."
        )


class RecordMismatch(LeptonError):
    """A record in the registry that speaks of another model, version or digest than where it was found."""

    code = "record_mismatch"

    def __init__(self, where: str, found: str, expected: str) -> None:
        super().__init__(
            f"{where} holds a record of {found}, expected one of {expected}. It was probably copied with its "
            f"tags; it is not used. Evaluate this version to give it a record of its own."
        )


# --- evaluation --------------------------------------------------------------------------------


class ColumnMissing(LeptonError):
    """A table lacks a column that was named."""

    code = "column_missing"

    def __init__(self, column: str, purpose: str, columns: Iterable[str]) -> None:
        super().__init__(f"The {purpose} column {column!r} isn't in the data.{nearest(column, columns)}")


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

    def __init__(self, version: str, action: str, seconds: float) -> None:
        super().__init__(f"Version {version} didn't {action} within {seconds:g} s and was given up.")


class ProcessDied(LeptonError):
    """A version that took its process down."""

    code = "process_died"

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(f"Version {version} took its process down when it was loaded and run: {reason}.")


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


class BaselineUndefined(LeptonError):
    """A target on which a constant prediction is perfect: no loss can be put in relation to it."""

    code = "baseline_undefined"

    def __init__(self, metric: str) -> None:
        super().__init__(
            f"The target is the same in all rows, so a constant prediction's {metric} is 0 and there is no baseline "
            f"to compare with. Use data in which the target varies."
        )


class ReportMissing(LeptonError):
    """An operation that needs an evaluation report found none."""

    code = "report_missing"

    def __init__(self, model: str, version: str | None = None) -> None:
        name = f"Version {version} of model {model!r}" if version else f"Model {model!r}"
        super().__init__(
            f"{name} has no evaluation report. Run: lepton evaluate {model} --data FILE --target COL --task TASK"
        )


class OutputUnavailable(LeptonError):
    """A version that can't give the kind of output asked for."""

    code = "output_unavailable"

    def __init__(self, version: str | None, wanted: str, found: str) -> None:
        name = f"Version {version}" if version else "The version"
        super().__init__(f"{name} can't give output {wanted!r}: it returns {found}.")


class ModelFailed(LeptonError):
    """A version that failed to load or to predict."""

    code = "model_failed"
    http_status = 500

    def __init__(self, version: str, action: str, reason: str) -> None:
        self.action, self.reason = action, reason
        super().__init__(f"Version {version} failed to {action}: {reason}")


class ModelFilesInvalid(LeptonError):
    """A version's files that contradict themselves or reach outside their directory."""

    code = "model_files_invalid"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"The model files at {path.name!r} can't be used: {reason}. Register the model again.")


class FormatUnknown(LeptonError):
    """Files that no backend runs."""

    code = "format_unknown"

    def __init__(self, path: Path, backend: str | None = None) -> None:
        who = f"The backend {backend!r} doesn't run" if backend else "No backend runs"
        names = sorted(file.name for file in path.iterdir())[:6] if path.is_dir() else [path.name]
        super().__init__(
            f"{who} these files: found {', '.join(names) or 'an empty directory'}, expected an MLflow model "
            f"directory (with an MLmodel file), or a file *.onnx, *.skops, *.joblib, *.pkl. "
            f"`lepton plugins` lists the backends."
        )


class TrustRequired(LeptonError):
    """A format that carries code, without leave to load it."""

    code = "trust_required"

    def __init__(self, version: str, format: str) -> None:
        super().__init__(
            f"Version {version} is stored as {format}, a format that runs code when it is loaded. "
            f"If you trust who wrote it, pass --trust pickle; else register it as ONNX or skops."
        )


# --- planning ----------------------------------------------------------------------------------


class SpecInvalid(LeptonError):
    """A plan file that isn't valid; the message lists each place with what was expected."""

    code = "spec_invalid"

    def __init__(self, findings: Sequence[str], path: object | None = None) -> None:
        where = f"{path}: " if path is not None else "The plan file: "
        count = "" if len(findings) == 1 else f"{len(findings)} findings:\n  - "
        super().__init__(where + count + "\n  - ".join(findings))
        self.findings = tuple(findings)


class NoArmLeft(LeptonError):
    """Every version was rejected."""

    code = "no_arm_left"
    exit_code = 1

    def __init__(self, model: str, reasons: Sequence[str]) -> None:
        super().__init__(f"No version of {model!r} can be planned: " + "; ".join(reasons) + ".")


class PlanFileTooLarge(LeptonError):
    """A plan file beyond what anyone writes by hand."""

    code = "plan_file_too_large"

    def __init__(self, path: object, size: int, limit: int) -> None:
        super().__init__(f"{path}: found {size:,} bytes, expected a plan file of at most {limit:,} bytes.")


class ArmMissing(LeptonError):
    """A version that the plan file gives a part to, but that isn't among the versions that can be arms."""

    code = "arm_missing"
    exit_code = 1

    def __init__(self, version: str, place: str, arms: Sequence[str], reason: str | None = None) -> None:
        why = f"it was rejected: {reason}" if reason else "it isn't among the plan file's versions"
        shown = ", ".join(arms) if arms else "none"
        super().__init__(f"{place} names version {version}, which can't be an arm: {why}. Arms: {shown}.")
        self.version = version
        self.place = place
        self.arms = tuple(arms)


class RuleInvalid(LeptonError):
    """A rule whose condition can't be true or false of this model's requests."""

    code = "rule_invalid"

    def __init__(self, number: int, source: str, problem: str, known: Iterable[str] | None = None) -> None:
        listed = (
            f" Known columns: {_shown(known)}; keep others with: lepton evaluate … --context NAME." if known else ""
        )
        super().__init__(f"policy.params.rules.{number}.when: found {source!r}: {problem.rstrip('.')}.{listed}")


class PolicyUnfit(LeptonError):
    """A selection policy that can't be used for this model or with these settings."""

    code = "policy_unfit"

    def __init__(self, kind: str, found: str, expected: str) -> None:
        super().__init__(f"policy {kind}: found {found}, expected {expected}.")


class GainMissing(LeptonError):
    """A policy that has to earn its place, and whose held-out gain isn't shown to be above zero."""

    code = "gain_missing"
    exit_code = 1

    def __init__(self, kind: str, gain: Gain | None, saved: float) -> None:
        found = "no gain could be measured: too few rows"
        if gain is not None and gain.low is not None and gain.high is not None:
            found = f"the held-out gain is {gain.value:+.3g} [{gain.low:.3g}, {gain.high:.3g}] {gain.metric}"
            found += f", with {saved:+.3g} for the time saved" if saved else ""
        super().__init__(
            f"policy {kind}: {found}; expected an interval above zero. Give it other features or more data, use "
            "another policy, or plan it all the same with policy.params.force: true."
        )


class WeightMissing(LeptonError):
    """Weights for some versions, none for others."""

    code = "weight_missing"

    def __init__(self, missing: Sequence[str], given: Sequence[str]) -> None:
        super().__init__(
            f"objective.weights: found weights for versions {', '.join(given)} but none for {', '.join(missing)}; "
            f"expected a weight for every version or for none."
        )


class TrafficInvalid(LeptonError):
    """Traffic by segment that doesn't fit the segments."""

    code = "traffic_invalid"

    def __init__(self, reason: str) -> None:
        super().__init__(f"objective.traffic: {reason}.")


class TooManySegments(LeptonError):
    """Columns that cut the rows into more segments than a table can hold."""

    code = "too_many_segments"

    def __init__(self, columns: Sequence[str], found: int, limit: int) -> None:
        super().__init__(
            f"policy.params.by: {' × '.join(columns)} has {found:,} different values on the evaluation data, expected "
            f"at most {limit:,}. Choose columns with fewer values, or bin a number before it is evaluated."
        )


class PredictionsUnpaired(LeptonError):
    """A version's predictions that don't line up with the others'."""

    code = "predictions_unpaired"

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(
            f"The predictions of version {version} can't be paired with the others': {reason}. "
            f"Evaluate all versions on the same data."
        )
        self.version = version


class NothingToPromote(LeptonError):
    """No revision newer than the plan in force."""

    code = "nothing_to_promote"
    exit_code = 1

    def __init__(self, model: str, in_force: str | None) -> None:
        newest = f"revision {in_force} is in force and the newest" if in_force else "there is no plan yet"
        super().__init__(f"Model {model!r} has nothing to promote: {newest}. Run: lepton plan {model} -f plan.yaml")


class NothingToRollBack(LeptonError):
    """No earlier plan to go back to."""

    code = "nothing_to_roll_back"
    exit_code = 1

    def __init__(self, model: str, found: str) -> None:
        super().__init__(
            f"Model {model!r} can't be rolled back: {found}. `lepton history {model}` lists the revisions."
        )


class AlreadyPinned(LeptonError):
    """Pinning the version that the plan in force pins."""

    code = "already_pinned"
    exit_code = 1

    def __init__(self, model: str, version: str, in_force: str) -> None:
        super().__init__(
            f"Model {model!r} is pinned to version {version} already, by revision {in_force}. Nothing was stored. "
            f"`lepton pin {model} --off` ends it."
        )


class NotPinned(LeptonError):
    """Unpinning a model whose plan in force isn't a pin."""

    code = "not_pinned"
    exit_code = 1

    def __init__(self, model: str, in_force: str | None) -> None:
        found = f"revision {in_force}, which isn't a pin" if in_force else "no plan in force"
        super().__init__(f"Model {model!r} isn't pinned: found {found}.")


class NoSolutionInTime(LeptonError):
    """The solver's time was up before it had found any allocation."""

    code = "no_solution_in_time"
    exit_code = 1

    def __init__(self, solver: str, seconds: float) -> None:
        super().__init__(
            f"The solver {solver!r} found no allocation within {seconds:g} s, nor a proof that there is none. "
            f"Give it more time (solver.time_limit), or name fewer versions."
        )


class Infeasible(LeptonError):
    """No allocation meets the constraints."""

    code = "infeasible"
    exit_code = 1

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("No allocation meets the constraints: " + "; ".join(reasons) + ".")
        self.reasons = tuple(reasons)


class PlanNotFound(LeptonError):
    """No such plan revision, or none in force."""

    code = "plan_not_found"
    http_status = 404

    def __init__(self, model: str, revision: str | None = None) -> None:
        which = f"no plan revision {revision}" if revision else "no plan in force"
        super().__init__(f"Model {model!r} has {which}. `lepton history {model}` lists the revisions.")


class RevisionAmbiguous(LeptonError):
    """The beginning of a digest with which several plan revisions' digests begin."""

    code = "revision_ambiguous"

    def __init__(self, model: str, revision: str, found: Sequence[str]) -> None:
        super().__init__(
            f"Model {model!r} has several plan revisions that begin with {revision}: {', '.join(found)}. "
            f"Give the number, or more of the digest."
        )


class PlanStale(LeptonError):
    """The plan in force isn't the parent of the one to be promoted."""

    code = "plan_stale"
    exit_code = 1

    def __init__(self, model: str, revision: str, parent: str, in_force: str) -> None:
        super().__init__(
            f"Revision {revision} of {model!r} was planned on top of {parent}, but {in_force} is in force now. "
            f"Plan again, or pass --force to put it in force all the same."
        )


class PromotionLost(LeptonError):
    """Another promotion was written at the same time and stands."""

    code = "promotion_lost"
    exit_code = 1

    def __init__(self, model: str, revision: str, winner: str) -> None:
        super().__init__(
            f"Revision {revision} of {model!r} was not put in force: {winner} was promoted at the same time and "
            f"stands. Plan again on top of it."
        )


class PromotionUnpublished(LeptonError):
    """A promotion that is in the audit trail, while the registry didn't take the tag that names it."""

    code = "promotion_unpublished"

    def __init__(self, model: str, revision: str, reason: str) -> None:
        super().__init__(
            f"Revision {revision} of {model!r} was put in force, but the tag that says so could not be written. "
            f"{reason} The next promotion sets it, or `lepton doctor`."
        )


# --- serving -----------------------------------------------------------------------------------


class DirectoryInvalid(LeptonError):
    """A deployment directory that can't be served."""

    code = "directory_invalid"

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path} is not a deployment directory that can be used: {reason}. `lepton pull` makes one.")


class RequestInvalid(LeptonError):
    """A request that doesn't fit the protocol or the signature; `field` and `expected` go into the answer."""

    code = "request_invalid"

    def __init__(self, found: str, *, field: str | None = None, expected: str | None = None) -> None:
        super().__init__(f"{found}; expected {expected}." if expected else found)
        self.field = field
        self.expected = expected


class InputMissing(RequestInvalid):
    """A request without an input that the signature requires."""

    code = "input_missing"

    def __init__(self, field: str, given: Iterable[str], expected: str) -> None:
        super().__init__(f"Input {field!r} is missing: found {_shown(given)}", field=field, expected=expected)


class InputUnknown(RequestInvalid):
    """A request with an input that the signature doesn't know."""

    code = "input_unknown"

    def __init__(self, field: str, known: Iterable[str]) -> None:
        super().__init__(
            f"Input {field!r} isn't in the signature.{nearest(field, known)}",
            field=field,
        )
        self.expected = _shown(known)


class InputInvalid(RequestInvalid):
    """An input whose type, shape or values don't fit the signature."""

    code = "input_invalid"

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(f"Input {field!r}: found {found}", field=field, expected=expected)


class TooManyRows(RequestInvalid):
    """A request with more rows than the server takes."""

    code = "too_many_rows"
    http_status = 413

    def __init__(self, found: int, limit: int) -> None:
        super().__init__(f"Found {found} rows in one request", expected=f"at most {limit}: split the request")


class BodyTooLarge(RequestInvalid):
    """A request body beyond the limit, told by its length or counted while it arrives."""

    code = "body_too_large"
    http_status = 413

    def __init__(self, limit: int) -> None:
        super().__init__("The request's body is too large", expected=f"at most {limit} bytes")


class BodyTooSlow(RequestInvalid):
    """A request body that didn't arrive in time."""

    code = "body_too_slow"
    http_status = 408

    def __init__(self, seconds: float) -> None:
        super().__init__("The request's body didn't arrive in time", expected=f"all of it within {seconds:g} s")


class MediaTypeUnsupported(RequestInvalid):
    """A body in a media type or encoding that the route doesn't take."""

    code = "media_type_unsupported"
    http_status = 415

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"Found the content type or encoding {found!r}", expected=expected)


class RouteNotFound(LeptonError):
    """No route of this path."""

    code = "route_not_found"
    http_status = 404

    def __init__(self, model: str) -> None:
        super().__init__(f"No such route. Try GET /v2, POST /v2/models/{model}/infer or POST /invocations.")


class MethodNotAllowed(LeptonError):
    """A route that exists, asked with another method."""

    code = "method_not_allowed"
    http_status = 405

    def __init__(self, found: str, allowed: Sequence[str]) -> None:
        super().__init__(f"Found method {found}, expected {' or '.join(allowed)}.")
        self.allowed = tuple(allowed)


class TokenRequired(LeptonError):
    """A route that needs the bearer token, asked without it or with another."""

    code = "token_required"
    http_status = 401

    def __init__(self) -> None:
        super().__init__("This needs the server's token: send the header 'Authorization: Bearer TOKEN'.")


class Overloaded(LeptonError):
    """More requests at once than the server takes."""

    code = "overloaded"
    http_status = 503

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} requests are being answered already. Try again in a second.")


class FeedbackUnavailable(LeptonError):
    """Feedback for a server that keeps no decisions."""

    code = "feedback_unavailable"
    http_status = 409

    def __init__(self) -> None:
        super().__init__("This server keeps no decisions that feedback could join. Start it with a decision log.")


class NotReady(LeptonError):
    """A server that has no plan loaded yet."""

    code = "not_ready"
    http_status = 503

    def __init__(self) -> None:
        super().__init__("The server is starting: no plan is loaded yet. Try again in a second.")


class AddressTaken(LeptonError):
    """A port, or a Unix socket, that another process listens on."""

    code = "address_taken"

    def __init__(self, host: str, port: int | None, reason: str) -> None:
        where, other = (host, "--host") if port is None else (f"{host}:{port}", "--port")
        super().__init__(f"Can't listen on {where}: {reason}. Stop the other server, or pass another {other}.")


class PointerInvalid(LeptonError):
    """A state directory whose pointer names no revision."""

    code = "pointer_invalid"

    def __init__(self, found: str) -> None:
        super().__init__(
            f"The pointer file `current` holds {found!r}, expected 'revisions/<sha256 of the plan>'. "
            f"Remove it and start `lepton serve NAME` again."
        )


class FollowerFailed(LeptonError):
    """The process that follows the registry brought no plan to start with."""

    code = "follower_failed"

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"No plan of {model!r} could be pulled: {reason}")


class Forbidden(LeptonError):
    """A request that the guard refused."""

    code = "forbidden"
    http_status = 403


# --- quickstart --------------------------------------------------------------------------------


class DirectoryUnwritable(LeptonError):
    """A directory that can't be made or written to."""

    code = "directory_unwritable"

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"Can't write to {path}: {reason}. Name another directory: lepton quickstart DIR")


class DirectoryNotOurs(LeptonError):
    """A directory that holds somebody else's files."""

    code = "directory_not_ours"

    def __init__(self, path: object, found: Sequence[str]) -> None:
        shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        super().__init__(
            f"{path} isn't empty and no quickstart made it (found {shown}). Nothing was touched. "
            f"Name a new or an empty directory: lepton quickstart DIR"
        )


class QuickstartRunning(LeptonError):
    """Another quickstart works in the same directory."""

    code = "quickstart_running"

    def __init__(self, path: object) -> None:
        super().__init__(f"Another quickstart is running in {path}. Wait for it, or name another directory.")


class ServerNotStarted(LeptonError):
    """A server process that didn't become ready."""

    code = "server_not_started"
    exit_code = 1

    def __init__(self, reason: str, output: str, log: object) -> None:
        last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "it wrote nothing")
        super().__init__(f"`lepton serve` didn't start: {reason}. Its last line: {last} The rest is in {log}.")


class TrafficFailed(LeptonError):
    """A request that the server didn't answer as expected."""

    code = "traffic_failed"
    exit_code = 1

    def __init__(self, path: str, found: str) -> None:
        super().__init__(f"POST {path}: expected an answer with status 200, found {found}")


class ServerUnreachable(LeptonError):
    """A Lepton server that a command was to talk to doesn't answer."""

    code = "server_unreachable"

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"The server at {server} doesn't answer: {reason}. Check the address and that it runs.")


class ServerRefused(LeptonError):
    """A Lepton server answered with an error."""

    code = "server_refused"

    def __init__(self, server: str, status: int, reason: str) -> None:
        super().__init__(f"The server at {server} answered {status}: {reason}")


class RequirementsConflict(LeptonError):
    """Versions of one plan that can't be installed together."""

    code = "requirements_conflict"

    def __init__(self, conflicts: Sequence[str]) -> None:
        super().__init__(
            f"The requirements can't be met by one environment. {'; '.join(conflicts)}. "
            "Log one of the versions again with the other's packages, or leave it out of the plan."
        )


class RequirementInvalid(LeptonError):
    """A line of requirements that can't go into an artefact."""

    code = "requirement_invalid"

    def __init__(self, side: str, line: str) -> None:
        super().__init__(
            f"The requirements of {side}: found {line[:200]!r}, expected a package with its version such as "
            "scikit-learn==1.6.1; files, folders and addresses don't travel with an artefact."
        )


class EnvironmentUnknown(LeptonError):
    """A version that doesn't say which packages it needs."""

    code = "environment_unknown"

    def __init__(self, version: str) -> None:
        super().__init__(
            f"Version {version} has no requirements.txt, so what it needs isn't known. "
            "Name it: --option requirements=scikit-learn==1.6.1,skops==0.11"
        )


class SourceNotPullable(LeptonError):
    """Files of a version that lie where a cluster can't get them."""

    code = "source_not_pullable"

    def __init__(self, version: str, address: str) -> None:
        scheme = address.partition(":")[0][:40] if ":" in address else "a local path"
        super().__init__(
            f"Version {version}: its files are at an address that a cluster can't pull from (found {scheme}; expected "
            "s3, gs, pvc, hdfs, hf, oci or Azure's https, without a password). Copy them where it can: "
            "lepton pull NAME --to DIR, then DIR/models to, say, s3://bucket/models, and add "
            "--option models=s3://bucket/models"
        )


class ManifestInvalid(LeptonError):
    """A manifest that a cluster would refuse."""

    code = "manifest_invalid"

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("KServe would refuse this manifest. " + "; ".join(findings))


class PlanTooLargeForTarget(LeptonError):
    """A plan beyond what the target can carry."""

    code = "plan_too_large_for_target"

    def __init__(self, target: str, size: int, limit: int) -> None:
        super().__init__(
            f"The plan and its policy's files have {size:,} bytes; {target} carries at most {limit:,}. "
            "Plan with fewer segments or a smaller policy."
        )
