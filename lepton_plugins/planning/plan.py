"""Making a plan: from a plan file and the registry's evidence to a frozen deployment plan."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from lepton_plugins.canonical import digest_bytes
from lepton_plugins.errors import (
    ArmMissing,
    ColumnMissing,
    ExploreMeaningless,
    PolicyUnfit,
    TrafficInvalid,
    VersionNotFound,
    nearest,
)
from lepton_plugins.planning import gain as gains
from lepton_plugins.planning import node_pools
from lepton_plugins.planning.allocation import Allocator
from lepton_plugins.planning.calibration import calibration_warning
from lepton_plugins.planning.candidates import Admission, Candidate, admit, asked_for, by_number
from lepton_plugins.planning.degrade import with_cheaper_arm
from lepton_plugins.planning.evidence import evidence_of, require, with_default
from lepton_plugins.planning.inputs import notes, union, with_context
from lepton_plugins.planning.installing import clashes
from lepton_plugins.planning.labels import with_numbers
from lepton_plugins.planning.past import unpinned
from lepton_plugins.planning.planned import PlannedDeployment, SegmentShares, verdict_of
from lepton_plugins.planning.solver import AllocationSolution
from lepton_plugins.planning.spec_file import check_plugins
from lepton_plugins.plugins import plugins
from lepton_plugins.records.plan import (
    Allocation,
    DeploymentPlan,
    FileDigest,
    PolicyDocument,
    Rejection,
)
from lepton_plugins.records.signature import Signature
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.registry import Registry
from lepton_plugins.routing.policy import HEADER, Choice, CompiledPolicy, SelectionPolicy

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

__all__ = ["PlannedDeployment", "make_plan"]

#: What rows without a segment are shown as.
NO_SEGMENT = "–"
#: Vectors of one segment that are shown each; more are shown by their mean.
_VECTORS = 20
#: What a policy that learns from labels needs.
_ONE_LABEL = "a metric that one label gives a value, such as brier: the policy learns from labels"
#: Aliases that tell the default arm, in this order.
_ALIASES = ("champion", "lepton-champion")


@dataclass(frozen=True, slots=True)
class _Before:
    """The plan in force, the policy that assigned units last (a pin's doesn't count), the model's salt."""

    plan: DeploymentPlan | None
    policy: PolicyDocument | None
    salt: str


def make_plan(registry: Registry, spec: PlanSpec, *, trust: Literal["pickle"] | None = None) -> PlannedDeployment:
    """The best plan that the evidence, the policy and the budget allow; nothing is stored.

    The same inputs give the same digest. Versions may be named by label; the plan holds numbers. Raises
    SpecInvalid (also where a name is no version's), ModelNotFound, NoArmLeft (every version was rejected),
    ArmMissing (one that the plan file gives a part to was), Infeasible, ColumnMissing and what the policy raises.
    """
    params = check_plugins(spec)
    known = registry.list_versions(spec.model)
    spec, params = with_numbers(spec, params, known)
    versions = asked_for(spec, known)
    before = _before(registry, spec.model)
    leader = spec.default or (before.plan.default if before.plan else None) or _champion(registry, spec.model)
    admission = admit(registry, spec, versions, leader=leader, trust=trust)
    require(admission, spec)
    if spec.topology == "embedded":
        for (first, second), reason in clashes(registry, admission.candidates).items():
            admission.conflicts.append((first, second))
            admission.warnings.append(
                f"versions {first} and {second} can't be installed together and don't run together: {reason} With "
                "topology: distributed each runs in a process of its own"
            )
    paired = evidence_of(registry, spec, admission)
    require(admission, spec)
    return _Planning(spec, params, before, admission, with_default(paired, admission, spec, leader), trust).plan()


def _before(registry: Registry, model: str) -> _Before:
    """The plan in force; the salt of any earlier plan, else a new one."""
    in_force, stored = registry.plan_in_force(model), registry.list_plans(model)
    if in_force is None:
        return _Before(None, None, registry.get_plan(stored[-1])[0].salt if stored else secrets.token_hex(16))
    plan = registry.get_plan(in_force)[0]
    below = unpinned(registry.list_activations(model))
    revision = next((item for item in stored if item.digest == below), None)
    assigning = plan if revision is None or below == plan.digest else registry.get_plan(revision)[0]
    return _Before(plan, assigning.policy, plan.salt)


def _champion(registry: Registry, model: str) -> str | None:
    for alias in _ALIASES:
        try:
            return registry.get_version(model, f"@{alias}").version
        except VersionNotFound:
            continue
    return None


@dataclass(slots=True)
class _Planning:
    """The steps from evidence to plan, and what they share. `paired` holds the versions that may answer."""

    spec: PlanSpec
    params: BaseModel
    before: _Before
    admission: Admission
    paired: PairedPredictions
    trust: Literal["pickle"] | None

    @property
    def default(self) -> str:
        return self.paired.versions[self.paired.default]

    def plan(self) -> PlannedDeployment:
        spec, paired = self.spec, self.paired
        policy: type[SelectionPolicy] = plugins().load("policy", spec.policy.kind)
        allocator = self._allocator()
        if policy.consults and spec.resources.slo.mixture_p99 is not None:
            expected = "a policy that asks one version a row: what it asks several for takes the time of all"
            raise PolicyUnfit(spec.policy.kind, "resources.slo.mixture_p99", expected)
        if policy.learns and paired.ratio is not None:
            raise PolicyUnfit(spec.policy.kind, f"objective.metric: {paired.metric}", _ONE_LABEL)
        try:
            proposal = policy.propose(self.params, paired)
        except ArmMissing as error:
            reason = self.admission.reason(error.version)
            raise ArmMissing(error.version, error.place, error.arms, reason) from None
        solution = None if proposal is None else allocator.solve(proposal)
        runs = set(allocator.required)
        if solution is not None:
            runs |= {paired.versions[int(i)] for i in np.flatnonzero(solution.runs)}
        chosen = [item for item in self.admission.candidates if item.name in runs or item in allocator.idle]
        if proposal is None:
            chosen = list(self.admission.candidates)
        names = [item.name for item in chosen]
        shares = None if solution is None else solution.shares
        made = policy.compile(self.params, paired, proposal, shares, names, self._previous())
        served = gains.compiled(spec.policy.kind, policy, self.params, made, names, self.default)
        found = gains.answered(served, paired)
        answer = found.choice
        self._check_traffic(answer)
        weights = gains.row_weights(answer.segments, answer.cells, spec.objective.traffic)
        parts = self._shares(answer, weights)
        arm_shares = dict(zip(names, parts.tolist(), strict=True))
        # What arms run for: more than they answer, where several are asked for one row.
        work = dict(zip(paired.versions, (weights @ found.work / weights.sum()).tolist(), strict=True))
        if proposal is None:
            # The policy decided by itself: whoever it never chooses isn't worth loading.
            needed = allocator.required | set(made.runs)
            kept = [item for item in chosen if work.get(item.name, 0.0) > 0 or item.name in needed]
            kept += [item for item in allocator.idle if item not in kept]
            if len(kept) < len(chosen):
                chosen = [item for item in chosen if item in kept]
                names = [item.name for item in chosen]
                made = policy.compile(self.params, paired, None, None, names, self._previous())
                served = gains.compiled(spec.policy.kind, policy, self.params, made, names, self.default)
                found = gains.answered(served, paired)
                answer = found.choice
            allocation = Allocation(solver="none", status="fixed", used=allocator.check_fixed(work, chosen))
        else:
            assert solution is not None
            allocation = Allocation(
                solver=solution.solver,
                status=solution.status,
                objective=solution.objective,
                bound=solution.bound,
                gap=solution.gap,
                form=spec.objective.form,
                used=solution.used,
            )
        explored = [name for name in names if name not in spec.around.shadow]
        if spec.around.explore and policy.consults:
            raise ExploreMeaningless(spec.policy.kind)
        asked = {name: self._part(name, part, explored) for name, part in work.items() if name in names}
        replicas, allocation = self._on_pools(None if proposal is None else solution, chosen, asked, allocation)
        shown = {item.name: self._part(item.name, arm_shares[item.name], explored) for item in chosen}
        p99 = None if policy.consults else allocator.p99_ms(shown)
        allocation = allocation.model_copy(update={"p99_ms": None if p99 is None else _figure(p99)})
        gain = gains.cross_fitted_gain(
            spec.policy.kind,
            policy,
            self.params,
            paired,
            lambda proposal: allocator.solve(proposal, folds=gains.FOLDS).shares,
            weights,
            whole=found.better,
            kept=1.0 - spec.around.holdout,
            explore=spec.around.explore,
            explored=np.array([version in explored for version in paired.versions]) / max(len(explored), 1),
        )
        warnings = [*self.admission.warnings, *(proposal.warnings if proposal is not None else ())]
        warnings += self._warnings(served, chosen, answer, names)
        around, notes_on_load = with_cheaper_arm(spec.around, chosen, work)
        warnings += notes_on_load
        plan = DeploymentPlan(
            model=spec.model,
            parent=self.before.plan.digest if self.before.plan is not None else None,
            salt=self.before.salt,
            output=self.admission.output,
            classes=chosen[0].report.classes,
            signature=with_context(
                self._inputs(chosen), (*served.features, *spec.decisions.columns), paired.columns, self._key
            ),
            arms=tuple(
                item.arm(
                    shown[item.name],
                    spec,
                    self._part(item.name, work.get(item.name, 0.0), explored),
                    replicas.get(item.name, {}),
                )
                for item in chosen
            ),
            default=self.default,
            policy=_document(served, made),
            around=around,
            per=spec.per,
            topology=spec.topology,
            baseline=paired.baseline,
            allocation=allocation,
            gain=gain,
            rejected=self._rejected(chosen),
            warnings=tuple(warnings),
            evidence=tuple(item.evidence for item in chosen),
            spec=spec,
        )
        served.check(plan)
        routes = any(part > 0 and version != self.default for version, part in work.items())
        return PlannedDeployment(
            plan=plan,
            files=dict(made.files),
            segments=_segments(answer, weights, names),
            verdict=verdict_of(gain, self.default, routes=routes),
        )

    def _allocator(self, chosen: Sequence[Candidate] | None = None) -> Allocator:
        """What gives shares to all candidates, or places the `chosen` ones, each of which must run."""
        fallback, live = self.spec.around.fallback, set(self.paired.versions)
        # Whoever explores tries every version.
        everyone = chosen is not None or self.spec.around.explore
        named = {self.default, fallback or self.default}
        if self.spec.around.degrade is not None and self.spec.around.degrade.to is not None:
            named.add(self.spec.around.degrade.to)
        required = live if everyone else named & live
        candidates = self.admission.candidates if chosen is None else chosen
        return Allocator(
            spec=self.spec,
            live=[item for item in candidates if item.name in self.paired.versions],
            idle=[item for item in candidates if item.name not in self.paired.versions],
            required=frozenset(required),
            before=self.before.plan,
            apart=self.admission.conflicts,
            ratio=self.paired.ratio,
        )

    def _on_pools(
        self,
        solution: AllocationSolution | None,
        chosen: Sequence[Candidate],
        work: Mapping[str, float],
        allocation: Allocation,
    ) -> tuple[dict[str, dict[str, int]], Allocation]:
        """Each version's replicas by pool, and the allocation with what nodes hold, cost and replicas to start.

        Where no solver chose the shares, or units held out or exploring change them, replicas are those of `work`.
        """
        spec = self.spec
        if not spec.resources.pools:
            return {}, allocation
        allocator = self._allocator()
        if solution is None or spec.around.holdout or spec.around.explore:
            allocator = self._allocator(chosen)
            solution = allocator.place(work)
        names, pools = [item.name for item in allocator.everyone], list(spec.resources.pools)
        nodes = node_pools.by_node(solution.placement, names, pools)
        held = node_pools.in_force(spec, self.before.plan, names)
        changes = {
            "used": solution.used,
            "nodes": nodes,
            "cost": node_pools.cost_of_nodes(nodes, spec),
            "moves": node_pools.started(solution.placement, held, together=spec.topology == "embedded"),
        }
        return node_pools.by_version(solution.placement, names, pools), allocation.model_copy(update=changes)

    @property
    def _key(self) -> str | None:
        return self.spec.around.sticky.key if self.spec.around.sticky is not None else None

    def _previous(self) -> PolicyDocument | None:
        policy = self.before.policy
        return policy if policy is not None and policy.kind == self.spec.policy.kind else None

    def _check_traffic(self, answer: Choice) -> None:
        known = {segment for segment in answer.segments if segment is not None}
        for segment in self.spec.objective.traffic:
            if segment not in known:
                kind, close = self.spec.policy.kind, nearest(segment, known).rstrip(".")
                raise TrafficInvalid(
                    f"found the segment {segment!r}, which policy {kind} doesn't make of the evaluation data.{close}"
                )

    def _shares(self, answer: Choice, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each arm's expected part of the traffic, shape (arms,), the holdout's included."""
        cells = np.bincount(answer.cells, weights=weights, minlength=len(answer.vectors)) / weights.sum()
        shares: NDArray[np.float64] = cells @ answer.vectors
        return shares

    def _inputs(self, chosen: Sequence[Candidate]) -> Signature:
        """What the arms take; ColumnMissing where the plan file logs a column that neither they nor the data have."""
        inputs = union(item.signature for item in chosen)
        for name in self.spec.decisions.columns:
            if name not in inputs.input_names and name not in self.paired.columns and inputs.input_names:
                raise ColumnMissing(name, "decisions.columns", [*inputs.input_names, *self.paired.columns])
        return inputs

    def _part(self, version: str, part: float, explored: Sequence[str]) -> float:
        """The arm's part of the traffic: the policy's, what it gets where units explore, the holdout's."""
        holdout, explore = self.spec.around.holdout, self.spec.around.explore
        held = holdout if version == self.default else 0.0
        drawn = explore / len(explored) if version in explored else 0.0
        return _figure((1 - holdout) * ((1 - explore) * part + drawn) + held)

    def _rejected(self, chosen: Sequence[Candidate]) -> tuple[Rejection, ...]:
        idle = [item for item in self.admission.candidates if item not in chosen]
        means = dict(zip(self.paired.versions, self.paired.means.tolist(), strict=True))
        default = means[self.default]
        unchosen = [
            Rejection(
                version=item.name,
                code="no_share",
                reason=f"it gets no traffic: {self.paired.metric} {means[item.name]:.5g} over all rows, the default's "
                f"is {default:.5g}; no segment in which it is proved better, or no room for it",
            )
            for item in idle
        ]
        return tuple(sorted([*self.admission.rejected, *unchosen], key=lambda item: by_number(item.version)))

    def _warnings(
        self, served: SelectionPolicy, chosen: Sequence[Candidate], answer: Choice, names: Sequence[str]
    ) -> list[str]:
        spec, paired = self.spec, self.paired
        found = notes(chosen)
        if served.learns:
            found.append("shares and gain are those before the first reward: the policy learns from feedback")
        headers = [name for name in served.features if name.startswith(HEADER)]
        if headers:
            found.append(f"shares and gain are those of requests without {', '.join(headers)}")
        missing = [name for name in served.features if name not in paired.columns and name not in headers]
        if missing:
            found.append(
                f"the evaluation data has no column {', '.join(missing)}, which the policy reads: shares and gain are "
                f"those of rows without it. Keep it with: lepton evaluate … --context {missing[0]}"
            )
        place = {version: index for index, version in enumerate(paired.versions)}
        # A shadow is an arm but no version of the evidence; it is never chosen.
        index = np.array([place.get(version, -1) for version in names], dtype=np.intp)
        known = {segment: number for number, segment in enumerate(dict.fromkeys(answer.segments))}
        segments = np.array([known[segment] for segment in answer.segments], dtype=np.intp)[answer.cells]
        shares = np.zeros((paired.rows, len(paired.versions)))
        seen = index >= 0
        shares[:, index[seen]] = answer.propensities[:, seen]
        warning = calibration_warning(paired, index[answer.arms], shares, segments, chosen[0].report.classes)
        if warning is not None:
            found.append(warning)
        if self.admission.task == "ranking" and spec.per == "row" and len(chosen) > 1:
            found.append(
                "a ranking is decided row by row: rows of one list may get scores of different versions. Set "
                "per: request, with one list a request"
            )
        return found


def _document(served: SelectionPolicy, made: CompiledPolicy) -> PolicyDocument:
    files = tuple(FileDigest(path=path, digest=digest_bytes(made.files[path])) for path in sorted(made.files))
    return served.document.model_copy(update={"files": files})


def _segments(answer: Choice, weights: NDArray[np.float64], names: Sequence[str]) -> tuple[SegmentShares, ...]:
    """The cells that the evaluation rows fell into, alike ones together, for display.

    Where a segment's rows each have a vector of their own, their mean.
    """
    rows = np.bincount(answer.cells, minlength=len(answer.vectors))
    traffic = np.bincount(answer.cells, weights=weights, minlength=len(answer.vectors)) / weights.sum()
    used = np.flatnonzero(rows).tolist()
    distinct = Counter(segment for segment, _ in {(answer.segments[c], answer.vectors[c].tobytes()) for c in used})
    many = {segment for segment, vectors in distinct.items() if vectors > _VECTORS}
    means: dict[str | None, tuple[float, ...]] = {}
    for segment in many:
        own = [cell for cell in used if answer.segments[cell] == segment]
        means[segment] = tuple((traffic[own] @ answer.vectors[own] / traffic[own].sum()).tolist())
    found: dict[tuple[str, tuple[float, ...]], SegmentShares] = {}
    for cell in used:
        segment = answer.segments[cell]
        vector = means[segment] if segment in means else tuple(answer.vectors[cell].tolist())
        key = (segment or NO_SEGMENT, vector)
        other, reason = found.get(key), answer.reasons[cell]
        found[key] = SegmentShares(
            segment=key[0],
            traffic=float(traffic[cell]) + (other.traffic if other else 0.0),
            rows=int(rows[cell]) + (other.rows if other else 0),
            shares={version: share for version, share in zip(names, vector, strict=True) if share > 0},
            reason=reason if other is None or other.reason == reason else "",
        )
    return tuple(found.values())


def _figure(value: float) -> float:
    """Nine significant digits: sums whose last bits differ from machine to machine make the same plan."""
    return float(f"{value:.9g}")
