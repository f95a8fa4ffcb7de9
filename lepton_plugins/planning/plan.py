"""Making a plan: from a plan file and the registry's evidence to a frozen deployment plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from lepton_plugins.canonical import digest_bytes
from lepton_plugins.errors import ArmMissing, EvidenceColumnMissing, ExploreMeaningless, PolicyUnfit
from lepton_plugins.planning import gain as gains
from lepton_plugins.planning import node_pools
from lepton_plugins.planning.allocation import Allocator
from lepton_plugins.planning.candidates import Admission, Candidate, admit, asked_for
from lepton_plugins.planning.degrade import with_cheaper_arm
from lepton_plugins.planning.evidence import evidence_of, require, with_default
from lepton_plugins.planning.inputs import union, with_context
from lepton_plugins.planning.installing import clashes
from lepton_plugins.planning.labels import with_numbers
from lepton_plugins.planning.past import Before, before, champion
from lepton_plugins.planning.planned import PlannedDeployment, verdict_of
from lepton_plugins.planning.rejected import rejected
from lepton_plugins.planning.segments import segment_shares
from lepton_plugins.planning.solver import AllocationSolution
from lepton_plugins.planning.spec_file import check_plugins
from lepton_plugins.planning.traffic import Traffic, check_segments, figure, parts_of
from lepton_plugins.planning.warnings import warnings_of
from lepton_plugins.plugins import plugins
from lepton_plugins.records.plan import Allocation, DeploymentPlan, FileDigest, Gain, PolicyDocument
from lepton_plugins.records.signature import Signature
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.registry import Registry
from lepton_plugins.routing.policy import CompiledPolicy, Proposal, SelectionPolicy

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

#: What a policy that learns from labels needs.
_ONE_LABEL = "a metric that one label gives a value, such as brier: the policy learns from labels"


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
    earlier = before(registry, spec.model)
    leader = spec.default or (earlier.plan.default if earlier.plan else None) or champion(registry, spec.model)
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
    return _Planning(spec, params, earlier, admission, with_default(paired, admission, spec, leader)).plan()


@dataclass(slots=True)
class _Planning:
    """The steps from evidence to plan, and what they share. `paired` holds the versions that may answer."""

    spec: PlanSpec
    params: BaseModel
    before: Before
    admission: Admission
    paired: PairedPredictions

    @property
    def default(self) -> str:
        return self.paired.versions[self.paired.default]

    def plan(self) -> PlannedDeployment:
        spec, paired = self.spec, self.paired
        policy: type[SelectionPolicy] = plugins().load("policy", spec.policy.kind)
        allocator = self._allocator()
        proposal = self._proposal(policy)
        solution = None if proposal is None else allocator.solve(proposal)
        runs = set(allocator.required)
        if solution is not None:
            runs |= {paired.versions[int(i)] for i in np.flatnonzero(solution.runs)}
        chosen = [item for item in self.admission.candidates if item.name in runs or item in allocator.idle]
        if proposal is None:
            chosen = list(self.admission.candidates)
        names = [item.name for item in chosen]
        shares = None if solution is None else solution.shares
        made, served, found = self._served(policy, proposal, shares, names)
        answer = found.choice
        check_segments(spec, answer)
        weights = gains.row_weights(answer.segments, answer.cells, spec.objective.traffic)
        parts = parts_of(answer, weights)
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
                made, served, found = self._served(policy, None, None, names)
                answer = found.choice
            allocation = Allocation(solver="none", status="fixed", used=allocator.check_fixed(work, chosen))
        else:
            assert solution is not None
            allocation = _allocation(solution, spec.objective.form)
        explored = [name for name in names if name not in spec.around.shadow]
        traffic = Traffic(spec.around, self.default, explored)
        asked = {name: traffic.part(name, part) for name, part in work.items() if name in names}
        replicas, allocation = self._on_pools(None if proposal is None else solution, chosen, asked, allocation)
        shown = {item.name: traffic.part(item.name, arm_shares[item.name]) for item in chosen}
        p99 = None if policy.consults else allocator.p99_ms(shown)
        allocation = allocation.model_copy(update={"p99_ms": None if p99 is None else figure(p99)})
        gain = self._gain(policy, allocator, weights, found, explored)
        warnings = [*self.admission.warnings, *(proposal.warnings if proposal is not None else ())]
        warnings += warnings_of(spec, self.admission.task, paired, served, chosen, answer)
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
                    traffic.part(item.name, work.get(item.name, 0.0)),
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
            rejected=rejected(self.admission, paired, chosen, policy, spec.policy.kind, proposal),
            warnings=tuple(warnings),
            evidence=tuple(item.evidence for item in chosen),
            spec=spec,
        )
        served.check(plan)
        routes = any(part > 0 and version != self.default for version, part in work.items())
        return PlannedDeployment(
            plan=plan,
            files=dict(made.files),
            segments=segment_shares(answer, weights, names),
            verdict=verdict_of(gain, self.default, routes=routes),
        )

    def _proposal(self, policy: type[SelectionPolicy]) -> Proposal | None:
        """What the policy asks the solver for; PolicyUnfit and ExploreMeaningless where the plan file asks too much."""
        spec, paired = self.spec, self.paired
        if policy.consults and spec.resources.slo.mixture_p99 is not None:
            expected = "a policy that asks one version a row: what it asks several for takes the time of all"
            raise PolicyUnfit(spec.policy.kind, "resources.slo.mixture_p99", expected)
        if policy.consults and spec.around.explore:
            raise ExploreMeaningless(spec.policy.kind)
        if policy.learns and paired.ratio is not None:
            raise PolicyUnfit(spec.policy.kind, f"objective.metric: {paired.metric}", _ONE_LABEL)
        try:
            return policy.propose(self.params, paired)
        except ArmMissing as error:
            reason = self.admission.reason(error.version)
            raise ArmMissing(error.version, error.place, error.arms, reason) from None

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

    def _served(
        self,
        policy: type[SelectionPolicy],
        proposal: Proposal | None,
        shares: NDArray[np.float64] | None,
        names: Sequence[str],
    ) -> tuple[CompiledPolicy, SelectionPolicy, gains.Answered]:
        """The policy over these arms: compiled, as it will be served, and what it does with the evaluation rows."""
        kind, last = self.spec.policy.kind, self.before.policy
        previous = last if last is not None and last.kind == kind else None
        made = policy.compile(self.params, self.paired, proposal, shares, names, previous)
        served = gains.compiled(kind, policy, self.params, made, names, self.default)
        return made, served, gains.answered(served, self.paired)

    def _gain(
        self,
        policy: type[SelectionPolicy],
        allocator: Allocator,
        weights: NDArray[np.float64],
        found: gains.Answered,
        explored: Sequence[str],
    ) -> Gain | None:
        """What the policy is expected to gain on rows that it wasn't made from, holdout and exploring included."""
        around, versions = self.spec.around, self.paired.versions
        return gains.cross_fitted_gain(
            self.spec.policy.kind,
            policy,
            self.params,
            self.paired,
            lambda proposal: allocator.solve(proposal, folds=gains.FOLDS).shares,
            weights,
            whole=found.better,
            kept=1.0 - around.holdout,
            explore=around.explore,
            explored=np.array([version in explored for version in versions]) / max(len(explored), 1),
        )

    def _inputs(self, chosen: Sequence[Candidate]) -> Signature:
        """What the arms take; ColumnMissing where the plan file logs a column that neither they nor the data have."""
        inputs = union(item.signature for item in chosen)
        for name in self.spec.decisions.columns:
            if name not in inputs.input_names and name not in self.paired.columns and inputs.input_names:
                raise EvidenceColumnMissing(name, "decisions.columns", [*inputs.input_names, *self.paired.columns])
        return inputs


def _allocation(solution: AllocationSolution, form: Literal["mixture", "select"]) -> Allocation:
    return Allocation(
        solver=solution.solver,
        status=solution.status,
        objective=solution.objective,
        bound=solution.bound,
        gap=solution.gap,
        form=form,
        used=solution.used,
    )


def _document(served: SelectionPolicy, made: CompiledPolicy) -> PolicyDocument:
    files = tuple(FileDigest(path=path, digest=digest_bytes(made.files[path])) for path in sorted(made.files))
    return served.document.model_copy(update={"files": files})
