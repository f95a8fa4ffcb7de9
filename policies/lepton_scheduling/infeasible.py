"""Why no allocation exists, in words, with the smallest budget that would do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lepton_plugins.planning.quantity import amount
from lepton_plugins.planning.solver import required_of
from lepton_scheduling.program import Program

_NAMES = {"cpu": "CPU", "memory": "memory", "gpu": "GPUs", "gpu_memory": "GPU memory"}


def reasons(program: Program, budgets: dict[str, float]) -> Sequence[str]:
    """Each budget that is too small by itself; if none is, what each would have to be beside the others."""
    problem = program.problem
    empty = [name for name, allowed in zip(problem.segments, problem.allowed, strict=True) if not allowed.any()]
    if empty:
        return [f"no version may answer in the segment {name!r}" for name in empty]
    needed = _needed_by_required(program)
    found: list[str] = []
    for resource, budget in budgets.items():
        least = smallest(program, resource, {})
        if least is not None and least > budget * (1 + 1e-9):
            found.append(
                f"resources.budget.{resource}: found {amount(resource, budget)}, but {needed[resource]}"
                f"the least {_NAMES[resource]} that any allocation needs is {amount(resource, least)}"
            )
    if found:
        return found
    for resource, budget in budgets.items():
        others = {name: value for name, value in budgets.items() if name != resource}
        least = smallest(program, resource, others)
        if least is not None:
            found.append(
                f"resources.budget.{resource}: found {amount(resource, budget)}; with the other budgets as they are "
                f"the smallest that would do is {amount(resource, least)}"
            )
    pairs = " and ".join(f"resources.budget.{resource}" for resource in budgets)
    return found or [f"{pairs} conflict with each other: raising any one of them alone isn't enough"]


def smallest(program: Program, resource: str, others: dict[str, float]) -> float | None:
    """The least use of a resource within the other budgets; None if they allow nothing at all."""
    use = program.use(resource)
    scale = float(use.max()) or 1.0
    result = program.solve(-use / scale, others, time_limit=program.problem.time_limit)
    return float(use @ result.x) if result.x is not None else None


def _needed_by_required(program: Program) -> dict[str, str]:
    problem = program.problem
    required = required_of(problem)
    names = ", ".join(version for version, must in zip(problem.versions, required, strict=True) if must)
    text = {"cpu": f"at a load of {problem.load:g} rows/s "}
    for resource in ("memory", "gpu", "gpu_memory"):
        use = float(np.asarray(getattr(problem, resource)) @ required)
        text[resource] = f"version {names}, which must run, needs {amount(resource, use)} and " if use else ""
    return text
