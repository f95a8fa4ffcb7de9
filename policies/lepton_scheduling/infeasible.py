"""Why no allocation exists, in words: what conflicts, and the smallest relaxation that would do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.quantity import amount
from lepton_plugins.planning.solver import RESOURCES, AllocationProblem, replica_use, required_of
from lepton_scheduling.conflicting import absolving, conflicting
from lepton_scheduling.fit import placeable
from lepton_scheduling.program import Program
from lepton_scheduling.relaxation import less_load, one_by_one, seconds_of, smallest, together
from lepton_scheduling.wording import NAMES, pair_of, place, stated

#: Versions that fit nowhere, named at most.
_MOST_NAMED = 20
#: More nodes of a pool that are tried where replicas can't be packed.
_MOST_PACKED = 3


def reasons(program: Program, limits: dict[str, float]) -> Sequence[str]:
    """Each limit that is too small by itself; if none is, what each would have to be beside the others."""
    problem = program.problem
    alone = _by_itself(problem)
    if alone:
        return alone
    found = list(_too_small(problem, limits))
    if found:
        return found
    found = [*one_by_one(problem, limits), *absolving(problem, limits)] or together(problem, limits)
    if problem.pools:
        found += less_load(problem, limits)
    places = conflicting(problem, limits)
    if len(places) > 1:
        found = [f"{' and '.join(places)} conflict with each other", *found]
    return found or [f"{' and '.join(places)}: no relaxation of a budget, of nodes or of the load is enough"]


def unpackable(problem: AllocationProblem, limits: dict[str, float]) -> Sequence[str]:
    """Enough of everything on all nodes together, but no node for each replica as a whole: the fewest more that do."""
    found = []
    for index, pool in enumerate(problem.pools):
        for more in range(1, _MOST_PACKED + 1):
            pools = list(problem.pools)
            pools[index] = replace(pool, nodes=pool.nodes + more)
            larger = Program(replace(problem, pools=pools), node_exact=True)
            result = larger.solve(-larger.use("versions"), limits, time_limit=seconds_of(problem), gap=1.0)
            if result.x is not None:
                found.append(
                    f"resources.pools.{pool.name}.nodes: found {pool.nodes}; with {pool.nodes + more} there is one"
                )
                break
    start = "the nodes together have enough, but no replica may lie on two of them"
    return [start, *found, *less_load(problem, limits)]


def _by_itself(problem: AllocationProblem) -> list[str]:
    """What no other constraint is needed for."""
    empty = [name for name, allowed in zip(problem.segments, problem.allowed, strict=True) if not allowed.any()]
    if empty:
        return [f"no version may answer in the segment {name!r}" for name in empty]
    required = required_of(problem)
    pairs = [pair for pair in problem.conflicts if required[list(pair)].all()]
    if pairs:
        return [f"resources.conflicts: versions {pair_of(problem, pair)} must both run" for pair in pairs]
    if not problem.pools:
        return []
    fits = placeable(problem).any(axis=1)
    found = [f"version {problem.versions[i]}, which must run, {_too_large(problem, i)}" for i in _on(required & ~fits)]
    for name, allowed in zip(problem.segments, problem.allowed, strict=True):
        if not (allowed & fits).any():
            found += [f"segment {name!r}: version {problem.versions[i]} {_too_large(problem, i)}" for i in _on(allowed)]
    return found[:_MOST_NAMED]


def _on(flags: NDArray[np.bool_]) -> list[int]:
    found: list[int] = np.flatnonzero(flags).tolist()
    return found


def _too_large(problem: AllocationProblem, i: int) -> str:
    use, names = replica_use(problem)[i], ", ".join(pool.name for pool in problem.pools)
    needs = ", ".join(amount(name, value) for name, value in zip(RESOURCES, use.tolist(), strict=True) if value)
    return f"fits on no node of resources.pools ({names}): a replica needs {needs}"


def _too_small(problem: AllocationProblem, limits: dict[str, float]) -> Iterator[str]:
    """Limits that are too small whatever the others are."""
    free = Program(replace(problem, conflicts=(), min_share=0.0))
    needed = _needed_by_required(problem)
    for resource, limit in limits.items():
        least = smallest(free, resource, {})
        if least is not None and least > limit * (1 + 1e-9):
            yield (
                f"{place(resource)}: found {stated(resource, limit)}, but {needed[resource]}"
                f"the least {NAMES[resource]} that any allocation needs is {stated(resource, least)}"
            )


def _needed_by_required(problem: AllocationProblem) -> dict[str, str]:
    program, required = Program(problem), required_of(problem)
    names = ", ".join(version for version, must in zip(problem.versions, required, strict=True) if must)
    text = dict.fromkeys(RESOURCES if problem.pools else ("cpu",), f"at a load of {problem.load:g} rows/s ")
    text["late"] = ""
    for resource in ("memory", "gpu", "gpu_memory", "versions"):
        if problem.pools and resource != "versions":
            continue
        use = float(program.use(resource)[program.cells : program.r] @ required)
        text[resource] = f"version {names}, which must run, needs {stated(resource, use)} and " if use else ""
    return text
