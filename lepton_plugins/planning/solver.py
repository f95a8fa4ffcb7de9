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

    subject to share_is ≤ xᵢ · allowed_is and, for every budgeted resource,

        memory, gpu, gpu_memory   Σᵢ xᵢ · useᵢ ≤ budget           (bytes, devices, bytes)
        cpu                       load · Σ_s traffic_s Σᵢ share_is · cpuᵢ ≤ budget   (cores; cpuᵢ in core-seconds a row)
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
