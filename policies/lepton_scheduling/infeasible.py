"""Why no allocation exists, in words: what conflicts, and the smallest relaxation that would do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.quantity import amount
from lepton_plugins.planning.solver import RESOURCES, AllocationProblem, FloatArray, replica_use, required_of
from lepton_scheduling.engine import Model, by_scipy
from lepton_scheduling.program import Program, placeable

_NAMES = {
    "cpu": "CPU",
    "memory": "memory",
    "gpu": "GPUs",
    "gpu_memory": "GPU memory",
    "versions": "versions",
    "late": "part of late answers",
}
#: Conflicts that are tried one by one.
_MOST_TRIED = 20
#: Nodes beyond those of a pool that a relaxation may ask for.
_MORE_NODES = 1000
#: More nodes of a pool that are tried where replicas can't be packed.
_MOST_PACKED = 3
#: Seconds for each question.
_SECONDS = 2.0


def reasons(program: Program, limits: dict[str, float]) -> Sequence[str]:
    """Each limit that is too small by itself; if none is, what each would have to be beside the others."""
    problem = program.problem
    alone = _by_itself(problem)
    if alone:
        return alone
    found = list(_too_small(problem, limits))
    if found:
        return found
    found = [*_one_by_one(problem, limits), *_without(problem, limits)] or _together(problem, limits)
    if problem.pools:
        found += _less_load(problem, limits)
    conflicting = _conflicting(problem, limits)
    if len(conflicting) > 1:
        found = [f"{' and '.join(conflicting)} conflict with each other", *found]
    return found or [f"{' and '.join(conflicting)}: no relaxation of a budget, of nodes or of the load is enough"]


def unpackable(problem: AllocationProblem, limits: dict[str, float]) -> Sequence[str]:
    """Enough of everything on all nodes together, but no node for each replica as a whole: the fewest more that do."""
    found = []
    for index, pool in enumerate(problem.pools):
        for more in range(1, _MOST_PACKED + 1):
            pools = list(problem.pools)
            pools[index] = replace(pool, nodes=pool.nodes + more)
            larger = Program(replace(problem, pools=pools), node_exact=True)
            result = larger.solve(-larger.use("versions"), limits, time_limit=_seconds(problem), gap=1.0)
            if result.x is not None:
                found.append(
                    f"resources.pools.{pool.name}.nodes: found {pool.nodes}; with {pool.nodes + more} there is one"
                )
                break
    start = "the nodes together have enough, but no replica may lie on two of them"
    return [start, *found, *_less_load(problem, limits)]


def smallest(program: Program, resource: str, others: dict[str, float]) -> float | None:
    """The least use of a resource within the other limits; None if they allow nothing at all."""
    use = program.use(resource)
    scale = float(use.max()) or 1.0
    result = program.solve(-use / scale, others, time_limit=_seconds(program.problem))
    return float(use @ result.x) if result.x is not None else None


def most_load(problem: AllocationProblem, limits: dict[str, float]) -> float | None:
    """The highest load, in rows a second, that an allocation bears; None where not even none.

    Shares are counted in parts of the load: they sum to ℓ ≤ 1 in each segment, and ℓ is maximised.
    """
    program = Program(replace(problem, min_share=0.0))
    model = program.model(np.zeros(program.columns), limits)
    extra = np.zeros((model.matrix.shape[0], 1))
    extra[: len(problem.segments)] = -1.0
    low, high = model.low.copy(), model.high.copy()
    low[: len(problem.segments)] = high[: len(problem.segments)] = 0.0
    lifted = _with_columns(replace(model, low=low, high=high), extra, np.array([1.0]), np.array([1.0]))
    result = by_scipy(lifted, _seconds(problem), 1e-4)
    return problem.load * float(result.x[-1]) if result.x is not None else None


def _seconds(problem: AllocationProblem) -> float:
    return min(problem.time_limit, _SECONDS)


def _by_itself(problem: AllocationProblem) -> list[str]:
    """What no other constraint is needed for."""
    empty = [name for name, allowed in zip(problem.segments, problem.allowed, strict=True) if not allowed.any()]
    if empty:
        return [f"no version may answer in the segment {name!r}" for name in empty]
    required = required_of(problem)
    pairs = [pair for pair in problem.conflicts if required[list(pair)].all()]
    if pairs:
        return [f"resources.conflicts: versions {_pair(problem, pair)} must both run" for pair in pairs]
    if not problem.pools:
        return []
    fits = placeable(problem).any(axis=1)
    found = [f"version {problem.versions[i]}, which must run, {_too_large(problem, i)}" for i in _on(required & ~fits)]
    for name, allowed in zip(problem.segments, problem.allowed, strict=True):
        if not (allowed & fits).any():
            found += [f"segment {name!r}: version {problem.versions[i]} {_too_large(problem, i)}" for i in _on(allowed)]
    return found[:_MOST_TRIED]


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
                f"{_place(resource)}: found {_amount(resource, limit)}, but {needed[resource]}"
                f"the least {_NAMES[resource]} that any allocation needs is {_amount(resource, least)}"
            )


def _one_by_one(problem: AllocationProblem, limits: dict[str, float]) -> Iterator[str]:
    """What each limit, each pool and the load would have to be with everything else as it is."""
    program = Program(problem)
    for resource, limit in limits.items():
        least = smallest(program, resource, {name: value for name, value in limits.items() if name != resource})
        if least is not None:
            yield (
                f"{_place(resource)}: found {_amount(resource, limit)}; with everything else as it is "
                f"the smallest that would do is {_amount(resource, least)}"
            )
    for index, pool in enumerate(problem.pools):
        nodes = _fewest_nodes(problem, limits, index)
        if nodes is not None:
            yield (
                f"resources.pools.{pool.name}.nodes: found {pool.nodes}; with everything else as it is "
                f"the fewest that would do is {nodes}"
            )


def _less_load(problem: AllocationProblem, limits: dict[str, float]) -> list[str]:
    load = most_load(problem, limits)
    if not load:
        return []
    most = f"with everything else as it is the most that can be borne is {load:.4g} rows/s"
    return [f"resources.load: found {problem.load:g} rows/s; {most}"]


def _fewest_nodes(problem: AllocationProblem, limits: dict[str, float], index: int) -> int | None:
    program = _with_more_nodes(problem, [index])
    worth = np.zeros(program.columns)
    worth[program.n + index] = -1.0
    result = program.solve(worth, limits, time_limit=_seconds(problem))
    return round(float(result.x[program.n + index])) if result.x is not None else None


def _with_more_nodes(problem: AllocationProblem, places: Sequence[int]) -> Program:
    """The program in which these pools have many nodes, each pool's counted in a column."""
    pools = [
        replace(pool, price=1.0, nodes=pool.nodes + (_MORE_NODES if index in places else 0))
        for index, pool in enumerate(problem.pools)
    ]
    return Program(replace(problem, pools=pools, price=1.0, move=0.0))


def _without(problem: AllocationProblem, limits: dict[str, float]) -> Iterator[str]:
    """Conflicts, the minimum share and the surviving of a node, where an allocation exists without them."""
    for pair in problem.conflicts[:_MOST_TRIED]:
        rest = tuple(other for other in problem.conflicts if set(other) != set(pair))
        if _shares(replace(problem, conflicts=rest), limits) is not None:
            yield f"resources.conflicts: without the one of versions {_pair(problem, pair)} there is one"
    if problem.min_share:
        shares = _shares(replace(problem, min_share=0.0), limits)
        if shares is not None:
            parts = (problem.traffic @ shares)[~required_of(problem)]
            least = parts[parts > 0].min(initial=1.0)
            yield f"resources.min_share: found {problem.min_share:g}; with {least:.3g} there is one"
    if problem.survive and _shares(replace(problem, survive=False), limits) is not None:
        yield "resources.survive: without it there is one"


def _shares(problem: AllocationProblem, limits: dict[str, float]) -> FloatArray | None:
    program = Program(problem)
    result = program.solve(-program.use("versions"), limits, time_limit=_seconds(problem), gap=1.0)
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
                more = replace(pool, nodes=pool.nodes + _MORE_NODES)
                return replace(
                    self, problem=replace(problem, pools=[*problem.pools[:index], more, *problem.pools[index + 1 :]])
                )
        return replace(self, limits={key: value for key, value in self.limits.items() if _place(key) != name})


def _conflicting(problem: AllocationProblem, limits: dict[str, float]) -> list[str]:
    """A smallest set of constraints that can't be kept together: each is dropped that isn't needed for that.

    The deletion filter of Chinneck & Dravnieks 1991 (Locating minimal infeasible constraint sets in linear
    programs), on whole groups of rows.
    """
    kept = _Kept(problem, limits)
    left = []
    for name in _places(problem, limits):
        fewer = kept.without(name)
        if _shares(fewer.problem, fewer.limits) is None:
            kept = fewer
        else:
            left.append(name)
    return left


def _together(problem: AllocationProblem, limits: dict[str, float]) -> list[str]:
    """The smallest relaxation of several limits at once: the least sum of their relative excess."""
    places = range(len(problem.pools))
    program = _with_more_nodes(problem, places)
    model = program.model(np.zeros(program.columns), limits)
    names = list(limits)
    count, first = len(names) + len(places), len(problem.segments) + program.cells
    extra = np.zeros((model.matrix.shape[0], count))
    # Limits' rows come right after those of segments and runs, one each, divided by the limit.
    for index in range(len(names)):
        extra[first + index, index] = -1.0
    nodes = np.array([pool.nodes for pool in problem.pools], dtype=float)
    worth = -np.r_[np.ones(len(names)), 1.0 / np.maximum(nodes, 1.0)]
    lifted = _with_columns(model, extra, worth, np.full(count, np.inf))
    if len(places):
        lifted = _excess_of_nodes(lifted, program.n, len(names), nodes)
    result = by_scipy(lifted, _seconds(problem), 1e-6)
    if result.x is None:
        return []
    excess = result.x[-count:]
    found = [
        f"{_place(name)} {_amount(name, limit * (1 + part) if limit else part)} instead of {_amount(name, limit)}"
        for (name, limit), part in zip(limits.items(), excess, strict=False)
        if part > 1e-9
    ]
    found += [
        f"resources.pools.{pool.name}.nodes {pool.nodes + round(part)} instead of {pool.nodes}"
        for pool, part in zip(problem.pools, excess[len(names) :], strict=True)
        if part > 1e-6
    ]
    return [f"the smallest relaxation that would do: {' and '.join(found)}"] if found else []


def _with_columns(model: Model, extra: FloatArray, worth: FloatArray, upper: FloatArray) -> Model:
    from scipy.sparse import csc_array, hstack

    count = len(worth)
    return replace(
        model,
        worth=np.r_[model.worth, worth],
        matrix=hstack([model.matrix, csc_array(extra)], format="csc"),
        lower=np.r_[model.lower, np.zeros(count)],
        upper=np.r_[model.upper, upper],
        whole=np.r_[model.whole, np.zeros(count, dtype=bool)],
    )


def _excess_of_nodes(model: Model, first: int, before: int, nodes: FloatArray) -> Model:
    """Rows n_p − excess_p ≤ nodes_p; the excess columns are the last ones."""
    from scipy.sparse import csc_array, vstack

    count, columns = len(nodes), model.matrix.shape[1]
    rows = np.zeros((count, columns))
    places = np.arange(count)
    rows[places, first + places] = 1.0
    rows[places, columns - count + places] = -1.0
    return replace(
        model,
        matrix=vstack([model.matrix, csc_array(rows)], format="csc"),
        low=np.r_[model.low, np.full(count, -np.inf)],
        high=np.r_[model.high, nodes],
    )


def _places(problem: AllocationProblem, limits: dict[str, float]) -> list[str]:
    found = [_place(resource) for resource in limits]
    found += [f"resources.pools.{pool.name}.nodes" for pool in problem.pools]
    found += ["resources.conflicts"] * bool(problem.conflicts) + ["resources.min_share"] * bool(problem.min_share)
    return found + ["resources.survive"] * problem.survive


def _pair(problem: AllocationProblem, pair: tuple[int, int]) -> str:
    return f"{problem.versions[pair[0]]} and {problem.versions[pair[1]]}"


def _place(resource: str) -> str:
    own = {"versions": "resources.max_versions", "late": "resources.slo.mixture_p99"}
    return own.get(resource, f"resources.budget.{resource}")


def _amount(resource: str, value: float) -> str:
    if resource == "late":
        return f"{100 * value:.3g} % of the answers late"
    return f"{value:.0f}" if resource == "versions" else amount(resource, value)


def _needed_by_required(problem: AllocationProblem) -> dict[str, str]:
    program, required = Program(problem), required_of(problem)
    names = ", ".join(version for version, must in zip(problem.versions, required, strict=True) if must)
    text = dict.fromkeys(RESOURCES if problem.pools else ("cpu",), f"at a load of {problem.load:g} rows/s ")
    text["late"] = ""
    for resource in ("memory", "gpu", "gpu_memory", "versions"):
        if problem.pools and resource != "versions":
            continue
        use = float(program.use(resource)[program.cells : program.r] @ required)
        text[resource] = f"version {names}, which must run, needs {_amount(resource, use)} and " if use else ""
    return text
