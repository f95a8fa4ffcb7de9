"""What a solver is: an allocation problem in, shares and a proof of how good they are out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.resources import Budget

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
#: What is counted: cores, bytes, devices, bytes. The order of `NodePool.capacity` and of `replica_use`'s columns.
RESOURCES = ("cpu", "memory", "gpu", "gpu_memory")


@dataclass(frozen=True, slots=True)
class NodePool:
    """Nodes that are alike: how many, what each has of RESOURCES, what each costs when it is used."""

    name: str
    nodes: int
    capacity: tuple[float, float, float, float]
    price: float = 0.0
    budget: Budget = field(default_factory=Budget)
    """What replicas on this pool may use together."""


@dataclass(frozen=True, slots=True)
class AllocationProblem:
    """Versions i, segments s, pools p. Shapes: (segments,), (versions,), (segments, versions), (versions, pools).

    Maximise, with share_is ≥ 0, Σᵢ share_is = 1 for each s, and xᵢ ∈ {0, 1} "version i runs":

        mixture   Σ_s traffic_s Σᵢ share_is · wᵢ · P_is
        select    Σᵢ xᵢ · wᵢ · Pᵢ  with  Pᵢ = Σ_s traffic_s · P_is, the shares then by mixture among the chosen

    subject to share_is ≤ xᵢ · allowed_is, xᵢ = 0 where nothing allows i and it isn't required, and, where given,

        conflicts      xᵢ + xⱼ ≤ 1 for each pair
        max_versions   Σᵢ xᵢ ≤ max_versions
        min_share      Σ_s traffic_s · share_is ≥ min_share · xᵢ for each i that isn't required
        late           Σ_s traffic_s Σᵢ share_is · lateᵢ ≤ most_late

    With demandᵢ = load · (1 + headroom) · Σ_s traffic_s · share_is, the rows a second that i must bear:

    Without pools one process holds all versions that run, and for every budgeted resource

        memory, gpu, gpu_memory   Σᵢ xᵢ · useᵢ ≤ budget           (bytes, devices, bytes)
        cpu                       Σᵢ demandᵢ · cpuᵢ ≤ budget      (cores; cpuᵢ in core-seconds a row)

    With pools a version runs as whole replicas, r_ip ∈ {0, 1, 2 …} on pool p, each with its own `cores`, memory,
    gpu, gpu_memory (use_ik) and bearing rate_ip rows a second there (0: it can't run there). n_p of a pool's nodes
    are used. The objective is less by

        price · Σ_p price_p · n_p  +  move · Σ_ip max(0, r_ip − in_force_ip)

    and, for each resource k,

        throughput     demandᵢ ≤ Σ_p rate_ip · r_ip
        replicas       Σ_p r_ip ≥ min_replicas · xᵢ
        nodes          each replica on one node;  Σᵢ use_ik · (replicas of i on a node) ≤ capacity_pk;  n_p ≤ nodes_p
        pool budget    Σᵢ r_ip · use_ik ≤ budget_pk
        budget         Σ_ip r_ip · use_ik ≤ budget_k
        survive        at most one replica of i on a node, and demandᵢ ≤ Σ_p rate_ip · r_ip − max_p rate_ip for each
                       i that answers: without any one node, and with it the fastest replica, i still bears its part
    """

    versions: Sequence[str]
    segments: Sequence[str]
    traffic: FloatArray
    utility: FloatArray
    weights: FloatArray
    allowed: NDArray[np.bool_]
    cpu: FloatArray
    memory: FloatArray
    gpu: FloatArray
    gpu_memory: FloatArray
    budget: Budget
    load: float = 0.0
    required: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """Versions that must run: the default arm, the fallback, shadows."""
    form: Literal["mixture", "select"] = "mixture"
    time_limit: float = 10.0
    gap: float = 0.001
    conflicts: Sequence[tuple[int, int]] = ()
    """Pairs of versions, by index, that must not run together."""
    max_versions: int | None = None
    """How many may run, those that must run counted."""
    min_share: float = 0.0
    """The least part of the traffic that a version runs for, unless it must run anyway."""
    late: FloatArray = field(default_factory=lambda: np.zeros(0))
    """The part of its answers that each version gives too late, shape (versions,). Counts with `most_late`."""
    most_late: float | None = None
    """The part of all answers that may be too late: 0.01 where the mixture's p99 has a limit."""
    seed: int = 0
    """For solvers that draw: the same seed gives the same answer, time permitting."""
    headroom: float = 0.0
    pools: Sequence[NodePool] = ()
    rate: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    cores: FloatArray = field(default_factory=lambda: np.zeros(0))
    """What one replica is given, where there are pools."""
    min_replicas: int = 1
    survive: bool = False
    price: float = 0.0
    move: float = 0.0
    in_force: IntArray | None = None
    """Replicas (versions, pools) that run already. None: nothing is in force, starting costs nothing."""

    @property
    def demand(self) -> float:
        """Rows a second to be borne, head-room included."""
        return self.load * (1.0 + self.headroom)


@dataclass(frozen=True, slots=True)
class Placement:
    """Replicas (versions, pools), and for each pool what its nodes hold, (nodes, versions)."""

    replicas: IntArray
    nodes: Sequence[IntArray]

    @property
    def used_nodes(self) -> IntArray:
        """How many nodes of each pool hold anything."""
        return np.array([int(node.any(axis=1).sum()) for node in self.nodes], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class AllocationSolution:
    """`shares` (segments, versions); `runs` (versions,). `bound` ≥ objective, gap relative to the bound.

    `placement` is there where the problem has pools; `seconds` is what solving took.
    """

    solver: str
    status: Literal["optimal", "feasible"]
    shares: FloatArray
    runs: NDArray[np.bool_]
    objective: float
    bound: float
    gap: float
    used: dict[str, float]
    placement: Placement | None = None
    seconds: float = 0.0


class Solver(Protocol):
    """Made without arguments."""

    def solve(self, problem: AllocationProblem) -> AllocationSolution:
        """Raises Infeasible, in words that name the constraint, where no allocation exists."""
        ...


def required_of(problem: AllocationProblem) -> NDArray[np.bool_]:
    """Which versions must run, shape (versions,); none where the problem names none."""
    return problem.required if len(problem.required) else np.zeros(len(problem.versions), dtype=bool)


def replica_use(problem: AllocationProblem) -> FloatArray:
    """What one replica of each version takes, shape (versions, RESOURCES)."""
    return np.stack([problem.cores, problem.memory, problem.gpu, problem.gpu_memory], axis=1)


def least_replicas(problem: AllocationProblem) -> IntArray:
    """The fewest replicas with which each version runs, shape (versions,); one more than none survives a node."""
    answers = problem.allowed.any(axis=0)
    least = np.where(problem.survive & answers, max(problem.min_replicas, 2), problem.min_replicas)
    return np.where(answers, least, 1).astype(np.int64)


def lost_rate(problem: AllocationProblem) -> FloatArray:
    """Rows a second that the loss of a node takes from each version, shape (versions,); 0 where that needn't matter."""
    if not problem.survive:
        return np.zeros(len(problem.versions))
    lost: FloatArray = np.where(problem.allowed.any(axis=0), problem.rate.max(axis=1), 0.0)
    return lost


def used_by(
    problem: AllocationProblem, shares: FloatArray, runs: NDArray[np.bool_], placement: Placement | None = None
) -> dict[str, float]:
    """What an allocation uses of each resource: cores, bytes, devices, bytes; with pools, what replicas are given."""
    if placement is not None:
        total = placement.replicas.sum(axis=1) @ replica_use(problem)
        return dict(zip(RESOURCES, total.tolist(), strict=True))
    return {
        "cpu": float(problem.demand * (problem.traffic @ shares @ problem.cpu)),
        "memory": float(problem.memory @ runs),
        "gpu": float(problem.gpu @ runs),
        "gpu_memory": float(problem.gpu_memory @ runs),
    }


def late_of(problem: AllocationProblem, shares: FloatArray) -> float:
    """The part of all answers that are too late."""
    return float(problem.traffic @ shares @ problem.late) if len(problem.late) else 0.0


def limits_of(problem: AllocationProblem) -> dict[str, float]:
    """What the versions that run may use together, by resource; `versions` is their number, `late` of their answers."""
    given = {resource: getattr(problem.budget, resource) for resource in RESOURCES}
    given |= {"versions": problem.max_versions, "late": problem.most_late}
    return {resource: float(value) for resource, value in given.items() if value is not None}


def keeps(
    problem: AllocationProblem,
    shares: FloatArray,
    runs: NDArray[np.bool_],
    placement: Placement | None = None,
    *,
    tolerance: float = 1e-9,
) -> bool:
    """Whether an allocation keeps limits, conflicts, minimum shares and, with pools, throughput and nodes."""
    if problem.pools and (placement is None or not _placed(problem, shares, runs, placement, tolerance)):
        return False
    used = {
        **used_by(problem, shares, runs, placement),
        "versions": float(runs.sum()),
        "late": late_of(problem, shares),
    }
    free = runs & ~required_of(problem)
    return (
        all(used[resource] <= limit * (1 + tolerance) for resource, limit in limits_of(problem).items())
        and not any(runs[first] and runs[second] for first, second in problem.conflicts)
        and bool(((problem.traffic @ shares)[free] >= problem.min_share - tolerance).all())
    )


def _placed(
    problem: AllocationProblem, shares: FloatArray, runs: NDArray[np.bool_], placement: Placement, tolerance: float
) -> bool:
    """Whether replicas bear the load, and lie on nodes that hold them."""
    replicas, use, room = placement.replicas, replica_use(problem), 1 + tolerance
    demand = problem.demand * (problem.traffic @ shares)
    borne = (problem.rate * replicas).sum(axis=1) - lost_rate(problem) * runs
    if (demand > borne * room + tolerance).any() or (replicas.sum(axis=1) < least_replicas(problem) * runs).any():
        return False
    if replicas[~runs].any() or replicas[problem.rate <= 0].any():
        return False
    for index, (pool, nodes) in enumerate(zip(problem.pools, placement.nodes, strict=True)):
        if len(nodes) > pool.nodes or (nodes.sum(axis=0) != replicas[:, index]).any():
            return False
        if (nodes @ use > np.array(pool.capacity) * room).any() or (problem.survive and (nodes > 1).any()):
            return False
        for column, resource in enumerate(RESOURCES):
            limit = getattr(pool.budget, resource)
            if limit is not None and replicas[:, index] @ use[:, column] > limit * room:
                return False
    return True


def runnable(problem: AllocationProblem) -> NDArray[np.bool_]:
    """Which versions may run at all, shape (versions,): those that some segment allows, and the required ones."""
    found: NDArray[np.bool_] = problem.allowed.any(axis=0) | required_of(problem)
    return found
