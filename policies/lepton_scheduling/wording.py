"""Constraints and amounts as the plan file has them."""

from __future__ import annotations

from lepton_plugins.planning.quantity import amount
from lepton_plugins.planning.solver import AllocationProblem

NAMES = {
    "cpu": "CPU",
    "memory": "memory",
    "gpu": "GPUs",
    "gpu_memory": "GPU memory",
    "versions": "versions",
    "late": "part of late answers",
}


def place(resource: str) -> str:
    """Where a limit stands in the plan file."""
    own = {"versions": "resources.max_versions", "late": "resources.slo.mixture_p99"}
    return own.get(resource, f"resources.budget.{resource}")


def stated(resource: str, value: float) -> str:
    """An amount of what a limit is of."""
    if resource == "late":
        return f"{100 * value:.3g} % of the answers late"
    return f"{value:.0f}" if resource == "versions" else amount(resource, value)


def pair_of(problem: AllocationProblem, pair: tuple[int, int]) -> str:
    """Two versions by name."""
    return f"{problem.versions[pair[0]]} and {problem.versions[pair[1]]}"
