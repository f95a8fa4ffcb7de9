"""From a proposal to shares: the problem that a solver is given, and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import Infeasible, TrafficInvalid, WeightMissing, nearest
from lepton_plugins.planning import node_pools
from lepton_plugins.planning.candidates import Candidate
from lepton_plugins.planning.fractional import Fractional
from lepton_plugins.planning.latency import LATE, mixture_p99
from lepton_plugins.planning.quantity import amount
from lepton_plugins.planning.solver import AllocationProblem, AllocationSolution, FloatArray, Solver
from lepton_plugins.plugins import plugins
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.routing.policy import Proposal

if TYPE_CHECKING:
    from lepton_plugins.evaluation.ratio import Ratio


@dataclass(frozen=True, slots=True)
class Allocator:
    """Gives shares to the versions of a proposal, within what the plan file allows.

    `live` are the candidates that may answer, `idle` those that must run but never answer (shadows),
    `required` the versions of `live` that must run whatever their share.
    """

    spec: PlanSpec
    live: Sequence[Candidate]
    idle: Sequence[Candidate]
    required: frozenset[str]
    before: DeploymentPlan | None = None
    apart: Sequence[tuple[str, str]] = ()
    """Versions that can't be installed together."""
    ratio: Ratio | None = None
    """What the evidence's utility is the first order of, where the metric is a ratio of sums."""

    @property
    def everyone(self) -> list[Candidate]:
        """The versions in the order of a placement's rows."""
        return [*self.live, *self.idle]

    def solve(self, proposal: Proposal, *, folds: int = 1) -> AllocationSolution:
        """The solver's answer. One of several `folds` gets its part of the time, and may lack rare segments."""
        problem = self.problem(proposal, folds)
        if self.ratio is None or proposal.under is None:
            return self.without_idle(self._solve(problem))
        idle = np.zeros((len(proposal.segments), len(self.idle)))
        under = np.hstack([proposal.under, idle])
        return self.without_idle(Fractional(problem, self.ratio, under).solve(self._solve))

    def _solve(self, problem: AllocationProblem) -> AllocationSolution:
        solver: Solver = plugins().load("solver", self.spec.solver.name)()
        if problem.pools and self.spec.topology == "embedded":
            return node_pools.Embedded(self.spec, problem).solve(solver.solve)
        return solver.solve(problem)

    def problem(self, proposal: Proposal, folds: int = 1) -> AllocationProblem:
        """The problem with the idle versions as further columns that no segment allows."""
        everyone = [*self.live, *self.idle]
        idle = len(self.idle)
        segments = len(proposal.segments)
        return AllocationProblem(
            versions=[item.name for item in everyone],
            segments=list(proposal.segments),
            traffic=traffic_of(proposal, self.spec.objective.traffic, strict=folds == 1),
            utility=np.hstack([proposal.utility, np.zeros((segments, idle))]),
            weights=self.weights(everyone),
            allowed=np.hstack([proposal.allowed, np.zeros((segments, idle), dtype=bool)]),
            cpu=np.array([item.cost.cpu or 0.0 for item in everyone]),
            memory=np.array([item.cost.memory or 0.0 for item in everyone]),
            gpu=np.array([item.cost.gpu for item in everyone]),
            gpu_memory=np.array([item.cost.gpu_memory for item in everyone]),
            budget=self.spec.resources.budget,
            load=self.spec.resources.load or 0.0,
            required=np.array([item.name in self.required for item in self.live] + [True] * idle),
            form=self.spec.objective.form,
            time_limit=self.spec.solver.time_limit / folds,
            gap=self.spec.solver.gap,
            conflicts=self.conflicts([item.name for item in everyone]),
            max_versions=self.spec.resources.max_versions,
            min_share=self.spec.resources.min_share,
            late=self.late(everyone),
            most_late=None if self.spec.resources.slo.mixture_p99 is None else LATE,
            seed=self.spec.solver.seed,
            headroom=self.spec.resources.headroom,
            pools=node_pools.node_pools(self.spec),
            rate=node_pools.rates(self.spec, everyone),
            cores=np.full(len(everyone), self.spec.resources.replica_cpu),
            min_replicas=self.spec.resources.min_replicas,
            survive=self.spec.resources.survive == "node",
            price=self.spec.objective.price,
            move=self.spec.objective.move,
            in_force=node_pools.in_force(self.spec, self.before, [item.name for item in everyone]),
        )

    def place(self, work: Mapping[str, float]) -> AllocationSolution:
        """Replicas for shares that no solver chose: each version is the only one in a segment of its own."""
        names = [item.name for item in self.live]
        segments = [name for name in names if work.get(name, 0.0) > 0]
        only = np.array([[name == segment for name in names] for segment in segments], dtype=bool)
        proposal = Proposal(segments, np.array([work[name] for name in segments]), only.astype(float), only)
        problem = replace(self.problem(proposal), form="mixture", min_share=0.0, traffic=np.asarray(proposal.traffic))
        return self._solve(problem)

    def conflicts(self, versions: Sequence[str]) -> list[tuple[int, int]]:
        """The conflicts among these versions, declared and found, by index."""
        place = {version: index for index, version in enumerate(versions)}
        pairs = [*self.spec.resources.conflicts, *self.apart]
        return [(place[first], place[second]) for first, second in pairs if first in place and second in place]

    def late(self, everyone: Sequence[Candidate]) -> FloatArray:
        """The part of its answers that each version gives later than `slo.mixture_p99`, shape (versions,)."""
        limit = self.spec.resources.slo.mixture_p99
        parts = [
            item.cost.latency.later_than(1000 * limit) if limit and item.cost.latency else 0.0 for item in everyone
        ]
        return np.array(parts)

    def p99_ms(self, shares: Mapping[str, float]) -> float | None:
        """The p99 of all answers together, in milliseconds; None where a version's latency isn't known."""
        answering = [item for item in self.live if shares.get(item.name, 0.0) > 0]
        known = [item.cost.latency for item in answering if item.cost.latency is not None]
        if not known or len(known) < len(answering):
            return None
        total = sum(shares[item.name] for item in answering)
        return mixture_p99([shares[item.name] / total for item in answering], known)

    def weights(self, everyone: Sequence[Candidate]) -> FloatArray:
        """The wᵢ; one each where the plan file gives none."""
        given = self.spec.objective.weights
        missing = [item.name for item in self.live if item.name not in given]
        if given and missing:
            raise WeightMissing(missing, list(given))
        return np.array([given.get(item.name, 1.0) if given else 1.0 for item in everyone])

    def without_idle(self, solution: AllocationSolution) -> AllocationSolution:
        count = len(self.live)
        return AllocationSolution(
            solver=solution.solver,
            status=solution.status,
            shares=solution.shares[:, :count],
            runs=solution.runs[:count],
            objective=solution.objective,
            bound=solution.bound,
            gap=solution.gap,
            used=solution.used,
            placement=solution.placement,
            seconds=solution.seconds,
        )

    def check_fixed(self, shares: Mapping[str, float], runs: Sequence[Candidate]) -> dict[str, float]:
        """What shares that no solver chose use of each resource; Infeasible where the budget is too small."""
        load = (self.spec.resources.load or 0.0) * (1 + self.spec.resources.headroom)
        used = {
            "cpu": load * sum(shares.get(item.name, 0.0) * (item.cost.cpu or 0.0) for item in runs),
            "memory": sum(item.cost.memory or 0.0 for item in runs),
            "gpu": sum(item.cost.gpu for item in runs),
            "gpu_memory": sum(item.cost.gpu_memory for item in runs),
        }
        short = []
        for resource, use in used.items():
            limit = getattr(self.spec.resources.budget, resource)
            if limit is not None and use > limit * (1 + 1e-9):
                names = ", ".join(item.name for item in runs)
                short.append(
                    f"resources.budget.{resource}: found {amount(resource, limit)}, but with the policy's shares "
                    f"version {names} need {amount(resource, use)}, the smallest budget that would do"
                )
        short += self._broken(shares, [item.name for item in runs])
        if short:
            raise Infeasible(short)
        return used

    def _broken(self, shares: Mapping[str, float], names: Sequence[str]) -> list[str]:
        """What else the plan file rules out of versions that no solver chose, in words."""
        resources, limit = self.spec.resources, self.spec.resources.slo.mixture_p99
        p99 = self.p99_ms(shares)
        found = [
            f"resources.conflicts: the policy has versions {names[first]} and {names[second]} run together"
            for first, second in self.conflicts(names)
        ]
        if resources.max_versions is not None and len(names) > resources.max_versions:
            listed = ", ".join(names)
            found.append(f"resources.max_versions: found {resources.max_versions}, but the policy has {listed} run")
        if limit is not None and p99 is not None and p99 > 1000 * limit * (1 + 1e-9):
            of = f"of all answers together with the policy's shares: {p99:.4g} ms"
            found.append(f"resources.slo.mixture_p99: found {1000 * limit:g} ms, expected no less than the p99 {of}")
        free = {item.name for item in self.live} - self.required
        parts = {name: shares.get(name, 0.0) for name in names if name in free}
        low = [f"version {name} {part:.3g}" for name, part in parts.items() if part < resources.min_share]
        if low:
            found.append(f"resources.min_share: found {resources.min_share:g}, the policy gives {', '.join(low)}")
        return found


def traffic_of(proposal: Proposal, given: Mapping[str, float], *, strict: bool = True) -> NDArray[np.float64]:
    """Each segment's part of the traffic: the evaluation data's, with those that the plan file gives instead.

    What the given ones leave of the whole goes to the others in the proportions of the evaluation data.
    TrafficInvalid where a given one is unknown or the sum isn't possible; not `strict`, those are left out.
    """
    traffic = np.asarray(proposal.traffic, dtype=np.float64)
    if not given:
        return traffic
    place = {segment: index for index, segment in enumerate(proposal.segments)}
    if not strict:
        given = {segment: share for segment, share in given.items() if segment in place}
    for segment in given:
        if segment not in place:
            close = nearest(segment, place).rstrip(".")
            raise TrafficInvalid(f"found the segment {segment!r}, which the evaluation data lacks.{close}")
    total = sum(given.values())
    named = np.array([segment in given for segment in proposal.segments])
    if strict and (total > 1 + 1e-6 or (named.all() and abs(total - 1) > 1e-6)):
        raise TrafficInvalid(f"found shares that sum to {total:g}, expected {'1' if named.all() else 'at most 1'}")
    rest = traffic[~named].sum()
    adjusted = np.where(named, 0.0, traffic * (max(1 - total, 0.0) / rest if rest else 0.0))
    for segment, share in given.items():
        adjusted[place[segment]] = share
    whole: NDArray[np.float64] = adjusted / adjusted.sum()
    return whole
