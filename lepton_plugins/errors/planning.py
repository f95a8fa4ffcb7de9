"""Spec, candidates, evidence and solver."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lepton_plugins.errors.base import LeptonError, _shown

if TYPE_CHECKING:
    from lepton_plugins.records.plan import Gain


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

    def __init__(self, model: str, reasons: Iterable[tuple[str, str]]) -> None:
        """`reasons` are (version, why); without any the plan file's filter found none."""
        versions: dict[str, list[str]] = {}
        for version, reason in reasons:
            versions.setdefault(reason.rstrip("."), []).append(version)
        told = [f"version{'s' * (len(of) > 1)} {', '.join(of)}: {reason}" for reason, of in versions.items()]
        none = f"none has all the tags of the plan file's filter. `lepton list {model} -o yaml` shows them"
        super().__init__(f"No version of {model!r} can be planned: {'; '.join(told) or none}.")


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
        self.version, self.reason = version, reason


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


class ExploreMeaningless(LeptonError):
    """Exploring under a policy that makes its answers of several versions' answers."""

    code = "explore_meaningless"

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"Found around.explore with the policy {kind}, whose answers are made of several versions' answers: what "
            f"one version alone would have earned can't be told from them. Leave explore out, or plan another policy."
        )


class CheaperArmUnknown(LeptonError):
    """`around.degrade` without `to`, where a version's report doesn't say what a row costs."""

    code = "cheaper_arm_unknown"

    def __init__(self, unknown: Sequence[str], arms: Sequence[str]) -> None:
        super().__init__(
            f"around.degrade: which arm is the cheapest isn't known: the report of version {', '.join(unknown)} has no "
            f"throughput. Name it in around.degrade.to, one of {', '.join(arms)}; or evaluate that version's cost."
        )
