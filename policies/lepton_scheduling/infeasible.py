"""Why no allocation exists, in words, with the smallest budget that would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lepton_plugins.planning.quantity import amount
from lepton_plugins.planning.solver import AllocationProblem, FloatArray, required_of
from lepton_scheduling.program import Program

_NAMES = {"cpu": "CPU", "memory": "memory", "gpu": "GPUs", "gpu_memory": "GPU memory", "versions": "versions"}
#: Conflicts that are tried one by one.
_MOST_TRIED = 20


def reasons(program: Program, limits: dict[str, float]) -> Sequence[str]:
    """Each limit that is too small by itself; if none is, what each would have to be beside the others."""
    problem = program.problem
    empty = [name for name, allowed in zip(problem.segments, problem.allowed, strict=True) if not allowed.any()]
    if empty:
        return [f"no version may answer in the segment {name!r}" for name in empty]
    required = required_of(problem)
    pairs = [pair for pair in problem.conflicts if required[list(pair)].all()]
    if pairs:
        return [f"resources.conflicts: versions {_pair(program, pair)} must both run" for pair in pairs]
    free = Program.of(replace(problem, conflicts=(), min_share=0.0))
    needed = _needed_by_required(program)
    found: list[str] = []
    for resource, limit in limits.items():
        least = smallest(free, resource, {})
        if least is not None and least > limit * (1 + 1e-9):
            found.append(
                f"{_place(resource)}: found {_amount(resource, limit)}, but {needed[resource]}"
                f"the least {_NAMES[resource]} that any allocation needs is {_amount(resource, least)}"
            )
    if found:
        return found
    for resource, limit in limits.items():
        others = {name: value for name, value in limits.items() if name != resource}
        least = smallest(program, resource, others)
        if least is not None:
            found.append(
                f"{_place(resource)}: found {_amount(resource, limit)}; with everything else as it is "
                f"the smallest that would do is {_amount(resource, least)}"
            )
    found += _relaxed(program, limits)
    places = [_place(resource) for resource in limits]
    places += ["resources.conflicts"] * bool(problem.conflicts) + ["resources.min_share"] * bool(problem.min_share)
    return found or [f"{' and '.join(places)} conflict with each other: relaxing any one of them alone isn't enough"]


def smallest(program: Program, resource: str, others: dict[str, float]) -> float | None:
    """The least use of a resource within the other limits; None if they allow nothing at all."""
    use = program.use(resource)
    scale = float(use.max()) or 1.0
    result = program.solve(-use / scale, others, time_limit=program.problem.time_limit)
    return float(use @ result.x) if result.x is not None else None


def _relaxed(program: Program, limits: dict[str, float]) -> Sequence[str]:
    """Conflicts and the minimum share, where an allocation exists without them."""
    problem = program.problem
    found: list[str] = []
    for pair in problem.conflicts[:_MOST_TRIED]:
        rest = tuple(other for other in problem.conflicts if set(other) != set(pair))
        if _shares(replace(problem, conflicts=rest), limits) is not None:
            found.append(f"resources.conflicts: without the one of versions {_pair(program, pair)} there is one")
    if problem.min_share:
        shares = _shares(replace(problem, min_share=0.0), limits)
        if shares is not None:
            parts = (problem.traffic @ shares)[~required_of(problem)]
            least = parts[parts > 0].min(initial=1.0)
            found.append(f"resources.min_share: found {problem.min_share:g}; with {least:.3g} there is one")
    return found


def _shares(problem: AllocationProblem, limits: dict[str, float]) -> FloatArray | None:
    program = Program.of(problem)
    result = program.solve(-program.use("versions"), limits, time_limit=problem.time_limit)
    return program.shares(result.x) if result.x is not None else None


def _pair(program: Program, pair: tuple[int, int]) -> str:
    return f"{program.problem.versions[pair[0]]} and {program.problem.versions[pair[1]]}"


def _place(resource: str) -> str:
    return "resources.max_versions" if resource == "versions" else f"resources.budget.{resource}"


def _amount(resource: str, value: float) -> str:
    return f"{value:.0f}" if resource == "versions" else amount(resource, value)


def _needed_by_required(program: Program) -> dict[str, str]:
    problem = program.problem
    required = required_of(problem)
    names = ", ".join(version for version, must in zip(problem.versions, required, strict=True) if must)
    text = {"cpu": f"at a load of {problem.load:g} rows/s "}
    for resource in ("memory", "gpu", "gpu_memory", "versions"):
        use = float(program.use(resource)[program.cells :] @ required)
        text[resource] = f"version {names}, which must run, needs {_amount(resource, use)} and " if use else ""
    return text
