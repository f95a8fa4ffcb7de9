"""Admission: which versions can be arms of a plan, and why the others can't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lepton_plugins.errors import LeptonError, TrustRequired
from lepton_plugins.evaluation.latest import latest_report
from lepton_plugins.planning.cost import Cost, cost_of
from lepton_plugins.planning.inputs import conflict
from lepton_plugins.planning.portable import storage_address, without_paths
from lepton_plugins.planning.quantity import amount
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.plan import Arm, ArmResources, Evidence, Rejection
from lepton_plugins.records.report import EvaluationReport, Task
from lepton_plugins.records.signature import Signature
from lepton_plugins.records.spec import PlanSpec, VersionFilter
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.registry import Registry

#: What a version's own output can be brought to.
_OUTPUTS: dict[OutputKind, tuple[OutputKind, ...]] = {
    "proba": ("proba", "label", "score"),
    "label": ("label",),
    "score": ("score", "value"),
    "value": ("value", "score"),
}
_DEFAULT_OUTPUT: dict[Task, OutputKind] = {"classification": "proba", "regression": "value", "ranking": "score"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that can be an arm: what the registry and its report say of it."""

    version: ModelVersion
    report: EvaluationReport
    cost: Cost

    @property
    def name(self) -> str:
        return self.version.version

    @property
    def signature(self) -> Signature | None:
        """What it was given when it was evaluated, else what the registry says."""
        return self.report.signature or self.version.signature

    @property
    def seen_on_gpu(self) -> bool:
        measured = self.report.resources.gpu_memory
        return measured is not None and measured.value > 0

    def arm(self, share: float, spec: PlanSpec, work: float, pools: Mapping[str, int]) -> Arm:
        """The version as an arm that answers `share` of the traffic and runs for `work` of it.

        `pools` are its replicas by node pool; without them it is one, in the process of all.
        """
        version, report, cost = self.version, self.report, self.cost
        assert report.artifact_digest is not None
        assert report.backend is not None
        replicas, load = sum(pools.values()) or 1, spec.resources.load
        throughput = None
        if pools and spec.topology == "distributed":
            cpu: float | None = spec.resources.replica_cpu * replicas
            if cost.cpu:
                slowest = min(spec.resources.pools[name].speed for name in pools)
                throughput = spec.resources.replica_cpu / cost.cpu * slowest
        else:
            cpu = load * work * cost.cpu if load is not None and cost.cpu is not None else None
        return Arm(
            version=version.version,
            label=version.label,
            uri=version.uri,
            source=storage_address(version.source),
            artifact_digest=report.artifact_digest,
            framework=version.framework,
            backend=report.backend,
            format=report.format or "unknown",
            trust="pickle" if report.carries_code else None,
            signature=self.signature,
            share=share,
            resources=ArmResources(
                replicas=replicas,
                pools=dict(pools),
                cpu=cpu,
                memory=int(cost.memory) * replicas if cost.memory is not None else None,
                gpu=cost.gpu * replicas or None,
                gpu_memory=int(cost.gpu_memory) * replicas or None,
                throughput=throughput,
            ),
        )

    @property
    def evidence(self) -> Evidence:
        dataset = self.report.dataset
        return Evidence(version=self.name, run_id=self.report.run_id, dataset=dataset.digest, rows=dataset.rows)


@dataclass(slots=True)
class Admission:
    """The outcome: candidates in the order of their numbers, rejections, warnings."""

    candidates: list[Candidate]
    rejected: list[Rejection]
    output: OutputKind
    warnings: list[str] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    """Versions that can't run in one process, beside those that the plan file names."""

    @property
    def task(self) -> Task:
        return self.candidates[0].report.task

    def reason(self, version: str) -> str | None:
        """Why a version was rejected; None if it wasn't."""
        return next((item.reason for item in self.rejected if item.version == version), None)

    def reject(self, version: str, code: str, reason: str) -> None:
        self.candidates = [item for item in self.candidates if item.name != version]
        self.rejected.append(Rejection(version=version, code=code, reason=without_paths(reason)))


def asked_for(spec: PlanSpec, known: Sequence[ModelVersion]) -> list[ModelVersion]:
    """The versions that the plan file, its labels resolved, speaks of."""
    if isinstance(spec.versions, VersionFilter):
        wanted = spec.versions.tag.items()
        chosen = {item.version for item in known if all(item.metadata.get(key) == value for key, value in wanted)}
    elif spec.versions == "all":
        chosen = {item.version for item in known}
    else:
        chosen = set(spec.versions)
    # What the plan file gives a part to is spoken of even where the list or the filter leaves it out.
    chosen |= set(roles(spec))
    return [item for item in known if item.version in chosen]


def roles(spec: PlanSpec) -> dict[str, str]:
    """Versions that the plan file gives a part to: version → its place in the file."""
    found = dict.fromkeys(spec.around.shadow, "around.shadow")
    if spec.around.fallback is not None:
        found[spec.around.fallback] = "around.fallback"
    if spec.around.degrade is not None and spec.around.degrade.to is not None:
        found[spec.around.degrade.to] = "around.degrade.to"
    if spec.default is not None:
        found[spec.default] = "default"
    return found


def admit(
    registry: Registry,
    spec: PlanSpec,
    versions: Sequence[ModelVersion],
    *,
    leader: str | None,
    trust: Literal["pickle"] | None = None,
) -> Admission:
    """Judge each version by its report and against the others.

    Where versions exclude each other (other data, other classes, inputs that clash) the `leader`'s side
    stays: the default arm where it is known before; else the side of most versions, else the most recent.
    """
    admission = Admission([], [], spec.output or "proba")
    for version in versions:
        report = latest_report(registry, version.model, version.version)
        if isinstance(report, LeptonError):
            admission.reject(version.version, report.code, str(report))
            continue
        found = _unusable(version, report, trust)
        if found is not None:
            admission.reject(version.version, *found)
        elif report is not None:
            on_gpu = version.version in spec.resources.on_gpu
            cost = cost_of(report, spec.resources.batch, on_gpu=on_gpu)
            admission.candidates.append(Candidate(version, report, cost))
            if on_gpu and cost.gpu and not admission.candidates[-1].seen_on_gpu:
                admission.warnings.append(_unseen(version.version, cost))
    if not admission.candidates:
        return admission
    _keep_one_dataset(admission, leader)
    admission.output = spec.output or _DEFAULT_OUTPUT[admission.task]
    for candidate in list(admission.candidates):
        found = _unfit(candidate, spec, admission.output)
        if found is not None:
            admission.reject(candidate.name, *found)
    _keep_one_set_of_classes(admission, leader)
    _keep_one_signature(admission, leader)
    return admission


def _unusable(
    version: ModelVersion, report: EvaluationReport | None, trust: Literal["pickle"] | None
) -> tuple[str, str] | None:
    """Why a version can't be an arm by itself: a code and a sentence."""
    again = f"run: lepton evaluate {version.model} --versions {version.version} --data FILE --target COL --task TASK"
    if version.status != "READY":
        return "not_ready", f"the registry says it is {version.status}, expected READY"
    if report is None:
        return "no_report", f"it has no evaluation report; {again}"
    if report.failure is not None:
        stage, reason = report.failure.stage, report.failure.reason
        return "evaluation_failed", f"its evaluation failed at the stage {stage!r}: {reason}"
    if report.artifact_digest is None or report.backend is None or report.output is None:
        return "not_measured", f"its report doesn't come from loading it: files, backend or output are unknown; {again}"
    if version.artifact_digest is not None and version.artifact_digest != report.artifact_digest:
        found, evaluated = version.artifact_digest[:19], report.artifact_digest[:19]
        return "digest_mismatch", f"its files have the digest {found}…, its report speaks of {evaluated}…; {again}"
    if report.carries_code and trust != "pickle":
        return TrustRequired.code, TrustRequired.reason(report.format or "an unknown format")
    return None


def _unseen(version: str, cost: Cost) -> str:
    return (
        f"version {version} runs on a GPU and was evaluated without: its GPU memory is estimated "
        f"({amount('gpu_memory', cost.gpu_memory)}), its latency and throughput are those of the CPU"
    )


def _unfit(candidate: Candidate, spec: PlanSpec, output: OutputKind) -> tuple[str, str] | None:
    """Why a version doesn't fit what the plan file asks for."""
    report = candidate.report
    own = report.output or output
    if output not in _OUTPUTS[own] or (output == "score" and own == "proba" and len(report.classes) != 2):
        return "output_unavailable", f"it gives {own!r}, which can't be brought to the plan's output {output!r}"
    if candidate.name in spec.resources.on_gpu and not candidate.cost.gpu:
        reason = "resources.on_gpu names it, and its report has no GPU memory, neither measured nor estimated; "
        return "cost_unknown", f"{reason}evaluate it where there is a GPU, or with the package onnx or torch installed"
    if spec.resources.slo.p99 is not None:
        limit = spec.resources.slo.p99 * 1000
        if candidate.cost.p99_ms is None:
            return "cost_unknown", f"its report has no latency, and the plan asks for a p99 of {limit:g} ms"
        if candidate.cost.p99_ms > limit:
            rows = "one row" if spec.resources.batch == 1 else f"batches for {spec.resources.batch} rows"
            measured = f"{candidate.cost.p99_ms:.3g} ms on {rows}"
            return "over_slo", f"its p99 is {measured}, the plan asks for at most {limit:g} ms"
    if spec.resources.slo.mixture_p99 is not None and candidate.cost.latency is None:
        return "cost_unknown", "its report has no latency, and the plan has a p99 of all answers together"
    return candidate.cost.exceeds(spec.resources)


def _keep_one_dataset(admission: Admission, leader: str | None) -> None:
    """Versions are paired on the same rows: those measured on other data, or for another task, go."""
    sides = Counter((item.report.dataset.digest, item.report.task) for item in admission.candidates)
    latest = {
        (item.report.dataset.digest, item.report.task): item.report.evaluated_at or ""
        for item in sorted(admission.candidates, key=lambda item: item.report.evaluated_at or "")
    }
    kept = next(
        ((item.report.dataset.digest, item.report.task) for item in admission.candidates if item.name == leader),
        max(sides, key=lambda side: (sides[side], latest[side], side)),
    )
    dataset = next(item.report.dataset for item in admission.candidates if item.report.dataset.digest == kept[0])
    for item in list(admission.candidates):
        report = item.report
        if report.task != kept[1]:
            admission.reject(item.name, "other_task", f"it was evaluated for {report.task}, the others for {kept[1]}")
        elif report.dataset.digest != kept[0]:
            admission.reject(
                item.name,
                "other_dataset",
                f"it was evaluated on {report.dataset.name!r} ({report.dataset.digest[:19]}…), not on "
                f"{dataset.name!r} ({dataset.digest[:19]}…) as the versions it would be paired with; evaluate it there",
            )


def _keep_one_set_of_classes(admission: Admission, leader: str | None) -> None:
    if not admission.candidates or admission.task != "classification":
        return
    sides = Counter(item.report.classes for item in admission.candidates)
    kept = next(
        (item.report.classes for item in admission.candidates if item.name == leader),
        max(sides, key=lambda side: (sides[side], side)),
    )
    for item in list(admission.candidates):
        if item.report.classes != kept:
            found, expected = ", ".join(item.report.classes[:12]), ", ".join(kept[:12])
            admission.reject(item.name, "classes_differ", f"its classes are {found}; expected {expected}")


def _keep_one_signature(admission: Admission, leader: str | None) -> None:
    """Inputs of one name must be of one kind; the leader's count, then those of the lowest version."""
    kept: list[Candidate] = []
    for item in sorted(admission.candidates, key=lambda item: item.name != leader):
        clashes = (conflict(item.signature, other.signature, other.name) for other in kept)
        clash = next((found for found in clashes if found is not None), None)
        if clash is not None:
            admission.reject(item.name, "incompatible_signature", clash)
        else:
            kept.append(item)


def by_number(version: str) -> tuple[int, str]:
    """A sort key: numbers as numbers."""
    return (int(version), "") if version.isdigit() else (0, version)
