"""What a solver is: an allocation problem in, shares and a proof of how good they are out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.spec import Budget

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AllocationProblem:
    """Versions i, segments s. Shapes: (segments,), (versions,) or (segments, versions).

    Maximise, with share_is ≥ 0, Σᵢ share_is = 1 for each s, and xᵢ ∈ {0, 1} "version i runs":

        mixture   Σ_s traffic_s Σᵢ share_is · wᵢ · P_is
        select    Σᵢ xᵢ · wᵢ · Pᵢ  with  Pᵢ = Σ_s traffic_s · P_is, the shares then by mixture among the chosen

    subject to share_is ≤ xᵢ · allowed_is, xᵢ = 0 where nothing allows i and it isn't required, and, for every
    budgeted resource,

        memory, gpu, gpu_memory   Σᵢ xᵢ · useᵢ ≤ budget           (bytes, devices, bytes)
        cpu                       load · Σ_s traffic_s Σᵢ share_is · cpuᵢ ≤ budget   (cores; cpuᵢ in core-seconds a row)

    and, where they are given,

        conflicts      xᵢ + xⱼ ≤ 1 for each pair
        max_versions   Σᵢ xᵢ ≤ max_versions
        min_share      Σ_s traffic_s · share_is ≥ min_share · xᵢ for each i that isn't required
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
    seed: int = 0
    """For solvers that draw: the same seed gives the same answer, time permitting."""


@dataclass(frozen=True, slots=True)
class AllocationSolution:
    """`shares` (segments, versions); `runs` (versions,). `bound` ≥ objective, gap relative to the bound."""

    solver: str
    status: Literal["optimal", "feasible"]
    shares: FloatArray
    runs: NDArray[np.bool_]
    objective: float
    bound: float
    gap: float
    used: dict[str, float]


class Solver(Protocol):
    """Made without arguments."""

    def solve(self, problem: AllocationProblem) -> AllocationSolution:
        """Raises Infeasible, in words that name the constraint, where no allocation exists."""
        ...


def required_of(problem: AllocationProblem) -> NDArray[np.bool_]:
    """Which versions must run, shape (versions,); none where the problem names none."""
    return problem.required if len(problem.required) else np.zeros(len(problem.versions), dtype=bool)


def used_by(problem: AllocationProblem, shares: FloatArray, runs: NDArray[np.bool_]) -> dict[str, float]:
    """What an allocation uses of each resource: cores, bytes, devices, bytes."""
    return {
        "cpu": float(problem.load * (problem.traffic @ shares @ problem.cpu)),
        "memory": float(problem.memory @ runs),
        "gpu": float(problem.gpu @ runs),
        "gpu_memory": float(problem.gpu_memory @ runs),
    }


def limits_of(problem: AllocationProblem) -> dict[str, float]:
    """What the versions that run may use together, by resource; `versions` is their number."""
    given = {resource: getattr(problem.budget, resource) for resource in ("cpu", "memory", "gpu", "gpu_memory")}
    given["versions"] = problem.max_versions
    return {resource: float(value) for resource, value in given.items() if value is not None}


def keeps(problem: AllocationProblem, shares: FloatArray, runs: NDArray[np.bool_], *, tolerance: float = 1e-9) -> bool:
    """Whether an allocation keeps limits, conflicts and minimum shares."""
    used = {**used_by(problem, shares, runs), "versions": float(runs.sum())}
    free = runs & ~required_of(problem)
    return (
        all(used[resource] <= limit * (1 + tolerance) for resource, limit in limits_of(problem).items())
        and not any(runs[first] and runs[second] for first, second in problem.conflicts)
        and bool(((problem.traffic @ shares)[free] >= problem.min_share - tolerance).all())
    )


def runnable(problem: AllocationProblem) -> NDArray[np.bool_]:
    """Which versions may run at all, shape (versions,): those that some segment allows, and the required ones."""
    found: NDArray[np.bool_] = problem.allowed.any(axis=0) | required_of(problem)
    return found
