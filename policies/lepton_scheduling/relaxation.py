"""What would have to be less or more for an allocation to exist: of each constraint alone, and of several together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from lepton_plugins.planning.solver import AllocationProblem, FloatArray
from lepton_scheduling.engine import Model, by_scipy
from lepton_scheduling.program import Program
from lepton_scheduling.wording import place, stated

#: Nodes beyond those of a pool that a relaxation may ask for.
MORE_NODES = 1000
#: Seconds for each question.
_SECONDS = 2.0


def smallest(program: Program, resource: str, others: dict[str, float]) -> float | None:
    """The least use of a resource within the other limits; None if they allow nothing at all."""
    use = program.use(resource)
    scale = float(use.max()) or 1.0
    result = program.solve(-use / scale, others, time_limit=seconds_of(program.problem))
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
    result = by_scipy(lifted, seconds_of(problem), 1e-4)
    return problem.load * float(result.x[-1]) if result.x is not None else None


def seconds_of(problem: AllocationProblem) -> float:
    """How long one question may take."""
    return min(problem.time_limit, _SECONDS)


def one_by_one(problem: AllocationProblem, limits: dict[str, float]) -> Iterator[str]:
    """What each limit, each pool and the load would have to be with everything else as it is."""
    program = Program(problem)
    for resource, limit in limits.items():
        least = smallest(program, resource, {name: value for name, value in limits.items() if name != resource})
        if least is not None:
            yield (
                f"{place(resource)}: found {stated(resource, limit)}; with everything else as it is "
                f"the smallest that would do is {stated(resource, least)}"
            )
    for index, pool in enumerate(problem.pools):
        nodes = _fewest_nodes(problem, limits, index)
        if nodes is not None:
            yield (
                f"resources.pools.{pool.name}.nodes: found {pool.nodes}; with everything else as it is "
                f"the fewest that would do is {nodes}"
            )


def less_load(problem: AllocationProblem, limits: dict[str, float]) -> list[str]:
    """With how much load it would do, as a finding; none where no load would."""
    load = most_load(problem, limits)
    if not load:
        return []
    most = f"with everything else as it is the most that can be borne is {load:.4g} rows/s"
    return [f"resources.load: found {problem.load:g} rows/s; {most}"]


def _fewest_nodes(problem: AllocationProblem, limits: dict[str, float], index: int) -> int | None:
    program = _with_more_nodes(problem, [index])
    worth = np.zeros(program.columns)
    worth[program.n + index] = -1.0
    result = program.solve(worth, limits, time_limit=seconds_of(problem))
    return round(float(result.x[program.n + index])) if result.x is not None else None


def _with_more_nodes(problem: AllocationProblem, places: Sequence[int]) -> Program:
    """The program in which these pools have many nodes, each pool's counted in a column."""
    pools = [
        replace(pool, price=1.0, nodes=pool.nodes + (MORE_NODES if index in places else 0))
        for index, pool in enumerate(problem.pools)
    ]
    return Program(replace(problem, pools=pools, price=1.0, move=0.0))


def together(problem: AllocationProblem, limits: dict[str, float]) -> list[str]:
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
    result = by_scipy(lifted, seconds_of(problem), 1e-6)
    if result.x is None:
        return []
    excess = result.x[-count:]
    found = [
        f"{place(name)} {stated(name, limit * (1 + part) if limit else part)} instead of {stated(name, limit)}"
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
