"""A plan file's node pools: what a version's replicas do there, and what a process that holds all versions does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from lepton_plugins.errors import Infeasible, NoSolutionInTime
from lepton_plugins.planning.candidates import Candidate
from lepton_plugins.planning.solver import (
    RESOURCES,
    AllocationProblem,
    AllocationSolution,
    FloatArray,
    IntArray,
    NodePool,
    Placement,
)
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.resources import Budget, Pool
from lepton_plugins.records.spec import PlanSpec

Solve = Callable[[AllocationProblem], AllocationSolution]


def node_pools(spec: PlanSpec) -> tuple[NodePool, ...]:
    """The pools as a solver knows them."""
    return tuple(
        NodePool(name, pool.nodes, _capacity(pool), pool.price, pool.budget)
        for name, pool in spec.resources.pools.items()
    )


def _capacity(pool: Pool) -> tuple[float, float, float, float]:
    gpu_memory = float("inf") if pool.gpu_memory is None else float(pool.gpu * pool.gpu_memory)
    return (pool.cpu, float(pool.memory), float(pool.gpu), gpu_memory)


def rates(spec: PlanSpec, everyone: Sequence[Candidate]) -> FloatArray:
    """Rows a second of one replica, shape (versions, pools): its cores over the core-seconds of a row, times speed."""
    cores = spec.resources.replica_cpu
    found = np.zeros((len(everyone), len(spec.resources.pools)))
    for row, item in enumerate(everyone):
        for column, pool in enumerate(spec.resources.pools.values()):
            if item.cost.cpu and item.cost.fits(pool, cores):
                found[row, column] = cores / item.cost.cpu * pool.speed
    return found


def in_force(spec: PlanSpec, before: DeploymentPlan | None, versions: Sequence[str]) -> IntArray | None:
    """Replicas (versions, pools) of the plan in force; None where none is, or where it has no pools."""
    if before is None or not any(arm.resources.pools for arm in before.arms):
        return None
    held = {arm.version: arm.resources.pools for arm in before.arms}
    names = list(spec.resources.pools)
    return np.array([[held.get(version, {}).get(name, 0) for name in names] for version in versions], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Embedded:
    """One process with all versions, on one pool, at most one of its replicas a node.

    For R replicas on a pool the problem is the one without pools: memory, gpu and gpu_memory are those of one
    node, the CPU that of R nodes (R − 1 where the loss of one must be survived), times the pool's speed. The
    objective is less by price · price_p · R + move · (replicas started).
    """

    spec: PlanSpec
    problem: AllocationProblem

    def solve(self, solver: Solve) -> AllocationSolution:
        """The best pool and number of replicas. Infeasible by the pool that comes closest, the last one."""
        best: AllocationSolution | None = None
        problems: list[str] = []
        for index, (name, pool) in enumerate(self.spec.resources.pools.items()):
            try:
                for found in self._on(index, pool, solver):
                    best = found if best is None or found.objective > best.objective + 1e-12 else best
            except Infeasible as error:
                problems += [f"on pool {name}: {reason}" for reason in error.reasons]
            except NoSolutionInTime:
                if best is None and index == len(self.spec.resources.pools) - 1:
                    raise
        if best is None:
            raise Infeasible(problems)
        bound = max(best.bound, best.objective)
        return replace(best, bound=bound, gap=(bound - best.objective) / abs(bound) if bound else 0.0)

    def _on(self, index: int, pool: Pool, solver: Solve) -> Iterator[AllocationSolution]:
        """Answers with fewer and fewer replicas: as many as are needed, and fewer where they have a price."""
        lost = int(self.spec.resources.survive == "node")
        wanted = self.spec.resources.min_replicas
        least = max(wanted, 1 + lost)
        if least > pool.nodes:
            asks = f"min_replicas: {wanted}" if least == wanted else "survive: node"
            nodes = f"{pool.nodes} node{'s' if pool.nodes > 1 else ''}"
            raise Infeasible([f"found {nodes}, expected at least {least}, as resources.{asks} asks"])
        most = found = solver(self._limited(pool, pool.nodes - lost))
        replicas = max(ceil(found.used["cpu"] / (pool.cpu * pool.speed) - 1e-9) + lost, least)
        yield self._placed(found, index, replicas)
        while replicas > least and (self.problem.price * pool.price or self.problem.move):
            replicas -= 1
            if most.objective - self._cost(index, least) <= found.objective - self._cost(index, replicas + 1):
                return
            try:
                found = solver(self._limited(pool, replicas - lost))
            except (Infeasible, NoSolutionInTime):
                return
            yield self._placed(found, index, replicas)

    def _limited(self, pool: Pool, nodes: int) -> AllocationProblem:
        """The problem without pools that so many working nodes leave."""
        own, capacity = self.spec.resources.budget, dict(zip(RESOURCES, _capacity(pool), strict=True))
        limits: dict[str, float | None] = {}
        for resource, value in capacity.items():
            given = [getattr(budget, resource) for budget in (own, pool.budget)]
            of_nodes = value * nodes if resource == "cpu" else value
            least = min([of_nodes, *(limit for limit in given if limit is not None)])
            limits[resource] = None if least == float("inf") else least * (pool.speed if resource == "cpu" else 1)
        whole = {
            name: int(limits[name] or 0) if limits[name] is not None else None for name in ("memory", "gpu_memory")
        }
        budget = Budget(cpu=limits["cpu"], memory=whole["memory"], gpu=limits["gpu"], gpu_memory=whole["gpu_memory"])
        return replace(self.problem, budget=budget, pools=())

    def _cost(self, index: int, replicas: int) -> float:
        pool = list(self.spec.resources.pools.values())[index]
        return self.problem.price * pool.price * replicas + self.problem.move * self._started(index, replicas)

    def _started(self, index: int, replicas: int) -> int:
        held = self.problem.in_force
        return 0 if held is None else max(0, replicas - int(held[:, index].max(initial=0)))

    def _placed(self, found: AllocationSolution, index: int, replicas: int) -> AllocationSolution:
        counts = np.zeros((len(found.runs), len(self.spec.resources.pools)), dtype=np.int64)
        counts[found.runs, index] = replicas
        nodes = [
            np.tile(found.runs.astype(np.int64), (replicas if p == index else 0, 1)) for p in range(counts.shape[1])
        ]
        cost = self._cost(index, replicas)
        used = {**found.used, **{name: found.used[name] * replicas for name in RESOURCES[1:]}}
        placement = Placement(counts, nodes)
        objective, bound = found.objective - cost, found.bound - cost
        return replace(found, objective=objective, bound=bound, used=used, placement=placement)


def by_version(placement: Placement | None, names: Sequence[str], pools: Sequence[str]) -> dict[str, dict[str, int]]:
    """Replicas by version and pool, without zeros."""
    if placement is None:
        return {}
    return {
        version: {pool: int(count) for pool, count in zip(pools, row, strict=True) if count}
        for version, row in zip(names, placement.replicas.tolist(), strict=True)
    }


def by_node(
    placement: Placement | None, names: Sequence[str], pools: Sequence[str]
) -> dict[str, tuple[dict[str, int], ...]]:
    """By pool, what each used node holds: replicas by version."""
    if placement is None:
        return {}
    return {
        pool: tuple(
            {version: int(count) for version, count in zip(names, node, strict=True) if count}
            for node in nodes.tolist()
            if any(node)
        )
        for pool, nodes in zip(pools, placement.nodes, strict=True)
    }


def cost_of_nodes(nodes: Mapping[str, Sequence[object]], spec: PlanSpec) -> float | None:
    """The price of the nodes used; None without pools."""
    if not spec.resources.pools:
        return None
    return sum(pool.price * len(nodes.get(name, ())) for name, pool in spec.resources.pools.items())


def started(placement: Placement | None, held: IntArray | None, *, together: bool) -> int | None:
    """Replicas that the plan in force doesn't have; `together`, where one holds all versions, counted once."""
    if placement is None or held is None:
        return None
    more = np.maximum(placement.replicas - held, 0)
    if together:
        more = np.maximum(placement.replicas.max(axis=0) - held.max(axis=0, initial=0), 0)
    return int(more.sum())
