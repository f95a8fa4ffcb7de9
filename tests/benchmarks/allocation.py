"""Prints seconds, objective and gap of each solver by the number of versions: `python tests/benchmarks/allocation.py`.

Seeded instances: `pools` with replicas on three node pools, packing included; `survive`, the same nodes, of which any
may be lost, at twice the load; `mixture` with ten segments under budgets of CPU and memory; `select` under one of
memory with 2 or 20 random conflicts a version; 10 s each. With `--peers` CP-SAT (ortools; on pools it counts replicas
and packs none) and pymoo's GA and PSO solve the same (extra [bench]).
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from time import perf_counter, process_time
from typing import Any

import numpy as np
from arguments import parser
from numpy.typing import NDArray

from lepton_plugins.errors import NoSolutionInTime
from lepton_plugins.planning.solver import AllocationProblem, NodePool, keeps, replica_use
from lepton_plugins.plugins import plugins
from lepton_plugins.records.resources import Budget
from lepton_scheduling.construction import Construction

SOLVERS = ("milp", "highs", "greedy", "genetic", "swarm", "auto")
SECONDS = 10.0


def mixture(versions: int, segments: int = 10, seed: int = 0) -> AllocationProblem:
    """Better versions cost more, as they do: a budget of a third of what the best would take."""
    rng = np.random.default_rng(seed)
    skill = rng.random(versions)
    utility = np.clip(0.4 + 0.2 * skill + rng.normal(0, 0.05, (segments, versions)), 0, 1)
    cpu = 0.001 + 0.02 * skill * rng.random(versions)
    memory = rng.uniform(2e8, 4e9, versions)
    return AllocationProblem(
        versions=[str(i + 1) for i in range(versions)],
        segments=[f"s{i}" for i in range(segments)],
        traffic=rng.dirichlet(np.full(segments, 2.0)),
        utility=utility,
        weights=np.ones(versions),
        allowed=rng.random((segments, versions)) < 0.9,
        cpu=cpu,
        memory=memory,
        gpu=np.zeros(versions),
        gpu_memory=np.zeros(versions),
        budget=Budget(cpu=0.6, memory=10 * 10**9),
        load=100.0,
        time_limit=SECONDS,
    )


def select(versions: int, conflicts: int, seed: int = 0) -> AllocationProblem:
    """The seed document's Σ wᵢ·Pᵢ: a third of all memory, so many random conflicts a version."""
    rng = np.random.default_rng(seed)
    memory = rng.uniform(2e8, 4e9, versions)
    pairs = {tuple(sorted(rng.choice(versions, 2, replace=False).tolist())) for _ in range(versions * conflicts // 2)}
    return AllocationProblem(
        versions=[str(i + 1) for i in range(versions)],
        segments=["all"],
        traffic=np.ones(1),
        utility=rng.uniform(0.3, 1.0, (1, versions)),
        weights=rng.uniform(0.5, 1.5, versions),
        allowed=np.ones((1, versions), dtype=bool),
        cpu=np.zeros(versions),
        memory=memory,
        gpu=np.zeros(versions),
        gpu_memory=np.zeros(versions),
        budget=Budget(memory=int(memory.sum() / 3)),
        form="select",
        time_limit=SECONDS,
        conflicts=sorted(pairs),
    )


def pooled(versions: int, segments: int = 10, seed: int = 0) -> AllocationProblem:
    """`mixture` on three pools of 14 nodes, a fifth of the versions needing a GPU; the nodes are short."""
    problem, rng = mixture(versions, segments, seed), np.random.default_rng(1000 + seed)
    gpu = (rng.random(versions) < 0.2).astype(float)
    rate = np.outer(1 / problem.cpu, [1.0, 1.0, 1.5])
    rate[gpu > 0, :2] = 0.0
    return replace(
        problem,
        gpu=gpu,
        pools=[
            NodePool("small", 8, (4.0, 16e9, 0.0, 0.0), price=1.0),
            NodePool("large", 4, (16.0, 64e9, 0.0, 0.0), price=3.5),
            NodePool("gpu", 2, (8.0, 32e9, 2.0, float("inf")), price=6.0),
        ],
        rate=rate,
        cores=np.ones(versions),
        budget=Budget(),
        load=20_000.0,
    )


def survived(versions: int, segments: int = 10, seed: int = 0) -> AllocationProblem:
    """`pooled`, where what is left must bear the load when any one node is lost; no version twice on a node."""
    return replace(pooled(versions, segments, seed), survive=True, load=40_000.0)


def cp_sat(problem: AllocationProblem) -> tuple[float, float]:
    """(objective, bound) by OR-tools' CP-SAT on two workers; shares in thousandths, all nodes of a pool together."""
    from ortools.sat.python import cp_model

    model, versions, part = cp_model.CpModel(), len(problem.versions), 1000
    runs = [model.new_bool_var(version) for version in problem.versions]
    for first, second in problem.conflicts:
        model.add_at_most_one(runs[first], runs[second])
    if problem.form == "select":
        worth = np.round(1e6 * problem.weights * problem.utility[0]).astype(int).tolist()
        objective = sum(value * x for value, x in zip(worth, runs, strict=True))
        scale = 1e6
    else:
        worth = np.round(1e6 * problem.traffic[:, None] * problem.weights * problem.utility).astype(int)
        demand = problem.load * problem.traffic / part
        cells = {cell: model.new_int_var(0, part, "") for cell in zip(*np.nonzero(problem.allowed), strict=True)}
        for s in range(len(problem.segments)):
            model.add(sum(share for (row, _), share in cells.items() if row == s) == part)
        for (_, i), share in cells.items():
            model.add(share <= part * runs[i])
        objective = sum(int(worth[cell]) * share for cell, share in cells.items())
        scale = 1e6 * part
        if problem.pools:
            _cp_sat_pools(model, problem, runs, cells, demand)
        else:
            assert problem.budget.cpu is not None
            micro = {(s, i): int(np.ceil(1e6 * demand[s] * problem.cpu[i])) for s, i in cells}
            model.add(sum(micro[cell] * share for cell, share in cells.items()) <= int(1e6 * problem.budget.cpu))
    if problem.budget.memory is not None:
        memory = np.ceil(problem.memory / 2**20).astype(int).tolist()
        model.add(sum(memory[i] * runs[i] for i in range(versions)) <= int(problem.budget.memory / 2**20))
    model.maximize(objective)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = problem.time_limit
    solver.parameters.num_workers = 2
    solver.parameters.random_seed = problem.seed
    solver.parameters.relative_gap_limit = problem.gap
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return float("nan"), solver.best_objective_bound / scale
    return solver.objective_value / scale, solver.best_objective_bound / scale


def timed_cp_sat(problem: AllocationProblem) -> tuple[float, float, float, float]:
    """Seconds, seconds of CPU, objective and bound of `cp_sat`."""
    import ortools.sat.python.cp_model  # noqa: F401

    start, spent = perf_counter(), process_time()
    objective, bound = cp_sat(problem)
    return perf_counter() - start, process_time() - spent, objective, bound


def _cp_sat_pools(
    model: Any, problem: AllocationProblem, runs: list[Any], cells: dict[Any, Any], demand: NDArray[np.float64]
) -> None:
    use, can = replica_use(problem), problem.rate > 0
    most = [pool.nodes if problem.survive else 200 for pool in problem.pools]
    replicas = {(i, p): model.new_int_var(0, most[p], "") for i, p in zip(*np.nonzero(can), strict=True)}
    served: dict[int, list[Any]] = {}
    for (s, i), share in cells.items():
        served.setdefault(int(i), []).append(int(np.ceil(1000 * demand[s])) * share)
    for i, parts in served.items():
        borne = [int(1000 * problem.rate[i, p]) * replicas[i, p] for p in range(len(problem.pools)) if can[i, p]]
        lost = int(np.ceil(1000 * problem.rate[i].max())) if problem.survive else 0
        model.add(sum(parts) + lost * runs[i] <= sum(borne))
    for p, pool in enumerate(problem.pools):
        for k, capacity in enumerate(pool.capacity):
            if capacity and np.isfinite(capacity):
                of_node = np.ceil(1e4 * use[:, k] / capacity).astype(int).tolist()
                mine = [(i, count) for (i, q), count in replicas.items() if q == p]
                model.add(sum(of_node[i] * count for i, count in mine) <= 10_000 * pool.nodes)


def by_pymoo(name: str, problem: AllocationProblem) -> float:
    """The best objective of pymoo's GA or PSO on random keys × density, decoded as `genetic` and `swarm` decode."""
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.algorithms.soo.nonconvex.pso import PSO
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize

    build = Construction(problem)
    keys = len(problem.versions)

    class Keys(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=keys, n_obj=1, xl=0.0, xu=1.0)

        def _evaluate(self, x: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            found = build.allocated(build.in_order(np.argsort(-x * build.density, kind="stable"), 0.0))
            out["F"] = 0.0 if found is None else -found.rank[0]

    algorithm = GA(pop_size=40) if name == "GA" else PSO(pop_size=30)
    seconds = f"00:00:{int(problem.time_limit):02d}"
    return -float(minimize(Keys(), algorithm, ("time", seconds), seed=problem.seed + 1, verbose=False).F[0])


def measure(name: str, problem: AllocationProblem, peers: bool) -> None:
    """One line a solver, then the peers where they are installed; `ratio` is the objective over the best of all."""
    print(f"\n{name}   (load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    print(f"  {'solver':10} {'seconds':>8} {'cpu s':>8} {'objective':>12} {'bound':>12} {'gap %':>8}")
    rows: list[tuple[str, float, float, float, float, str]] = []
    for solver in SOLVERS:
        if find_spec("highspy") is None and solver == "highs":
            continue
        start, spent = perf_counter(), process_time()
        try:
            found = plugins().load("solver", solver)().solve(problem)
        except NoSolutionInTime:
            print(f"  {solver:10} {perf_counter() - start:8.2f} no allocation in time")
            continue
        seconds, cpu = perf_counter() - start, process_time() - spent
        assert keeps(problem, found.shares, found.runs, found.placement, tolerance=2e-6)
        by = "" if found.solver == solver else f"  by {found.solver}"
        rows.append((solver, seconds, cpu, found.objective, found.bound, f"{found.status}{by}"))
    if peers and find_spec("ortools") is not None:
        # ortools' own HiGHS and highspy's don't go into one process.
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            seconds, cpu, objective, bound = apart.submit(timed_cp_sat, problem).result()
        rows.append(("CP-SAT", seconds, cpu, objective, bound, ""))
    if peers and find_spec("pymoo") is not None:
        for algorithm in ("GA", "PSO"):
            start, spent = perf_counter(), process_time()
            objective = by_pymoo(algorithm, problem)
            rows.append((f"pymoo {algorithm}", perf_counter() - start, process_time() - spent, objective, np.nan, ""))
    best = max(row[3] for row in rows if np.isfinite(row[3]))
    for solver, seconds, cpu, objective, bound, status in rows:
        gap = 100 * (1 - objective / bound) if bound else 0.0
        print(
            f"  {solver:10} {seconds:8.2f} {cpu:8.2f} {objective:12.6g} {bound:12.6g} {gap:8.3f}"
            f"  ratio {objective / best:.5f}  {status}"
        )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--most", type=int, default=2000, help="the most versions")
    arguments.add_argument("--peers", action="store_true", help="CP-SAT and pymoo, too, where they are installed")
    arguments.add_argument("--only", default="", help="instances whose name contains this")
    asked = arguments.parse_args()
    for versions in (size for size in (20, 200, 2000) if size <= asked.most):
        instances = {
            f"pools, {versions} versions, 10 segments, 14 nodes": partial(pooled, versions),
            f"survive, {versions} versions, 10 segments, 14 nodes": partial(survived, versions),
            f"mixture, {versions} versions, 10 segments": partial(mixture, versions),
            f"select, {versions} versions, 2 conflicts each": partial(select, versions, 2),
            f"select, {versions} versions, 20 conflicts each": partial(select, versions, 20),
        }
        for name, make in instances.items():
            if asked.only in name and not (versions == 20 and "20 conflicts" in name):
                # The smallest are proved optimal; for the others a thousandth is near enough.
                measure(name, replace(make(), gap=0.0 if versions == 20 else 0.001), asked.peers)


if __name__ == "__main__":
    main()
