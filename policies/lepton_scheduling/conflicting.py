"""Which constraints can't be kept together, and without which one an allocation exists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lepton_plugins.planning.solver import AllocationProblem, FloatArray, required_of
from lepton_scheduling.program import Program
from lepton_scheduling.relaxation import MORE_NODES, seconds_of
from lepton_scheduling.wording import pair_of, place

#: Conflicts that are tried one by one.
_MOST_TRIED = 20


def absolving(problem: AllocationProblem, limits: dict[str, float]) -> Iterator[str]:
    """Conflicts, the minimum share and the surviving of a node, where an allocation exists without them."""
    for pair in problem.conflicts[:_MOST_TRIED]:
        rest = tuple(other for other in problem.conflicts if set(other) != set(pair))
        if shares_of(replace(problem, conflicts=rest), limits) is not None:
            yield f"resources.conflicts: without the one of versions {pair_of(problem, pair)} there is one"
    if problem.min_share:
        shares = shares_of(replace(problem, min_share=0.0), limits)
        if shares is not None:
            parts = (problem.traffic @ shares)[~required_of(problem)]
            least = parts[parts > 0].min(initial=1.0)
            yield f"resources.min_share: found {problem.min_share:g}; with {least:.3g} there is one"
    if problem.survive and shares_of(replace(problem, survive=False), limits) is not None:
        yield "resources.survive: without it there is one"


def shares_of(problem: AllocationProblem, limits: dict[str, float]) -> FloatArray | None:
    """The shares of some allocation; None where there is none, or none was found in time."""
    program = Program(problem)
    result = program.solve(-program.use("versions"), limits, time_limit=seconds_of(problem), gap=1.0)
    return program.shares(result.x) if result.x is not None else None


@dataclass(frozen=True, slots=True)
class _Kept:
    """A problem with some of its constraints."""

    problem: AllocationProblem
    limits: dict[str, float]

    def without(self, name: str) -> _Kept:
        """Without the constraint of this place in the plan file."""
        problem = self.problem
        if name == "resources.conflicts":
            return replace(self, problem=replace(problem, conflicts=()))
        if name == "resources.min_share":
            return replace(self, problem=replace(problem, min_share=0.0))
        if name == "resources.survive":
            return replace(self, problem=replace(problem, survive=False))
        for index, pool in enumerate(problem.pools):
            if name == f"resources.pools.{pool.name}.nodes":
                more = replace(pool, nodes=pool.nodes + MORE_NODES)
                return replace(
                    self, problem=replace(problem, pools=[*problem.pools[:index], more, *problem.pools[index + 1 :]])
                )
        return replace(self, limits={key: value for key, value in self.limits.items() if place(key) != name})


def conflicting(problem: AllocationProblem, limits: dict[str, float]) -> list[str]:
    """A smallest set of constraints that can't be kept together: each is dropped that isn't needed for that.

    The deletion filter of Chinneck & Dravnieks 1991 (Locating minimal infeasible constraint sets in linear
    programs), on whole groups of rows.
    """
    kept = _Kept(problem, limits)
    left = []
    for name in _places(problem, limits):
        fewer = kept.without(name)
        if shares_of(fewer.problem, fewer.limits) is None:
            kept = fewer
        else:
            left.append(name)
    return left


def _places(problem: AllocationProblem, limits: dict[str, float]) -> list[str]:
    found = [place(resource) for resource in limits]
    found += [f"resources.pools.{pool.name}.nodes" for pool in problem.pools]
    found += ["resources.conflicts"] * bool(problem.conflicts) + ["resources.min_share"] * bool(problem.min_share)
    return found + ["resources.survive"] * problem.survive
