"""Prints seconds, objective and gap of each solver by the number of versions: `python tests/benchmarks/allocation.py`.

Seeded instances: `mixture` with ten segments under budgets of CPU and memory, `select` under one of memory with 2 or
20 random conflicts a version (10 s each). CP-SAT (ortools) solves the latter too where it is installed.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from time import perf_counter

import numpy as np

from lepton_plugins.errors import NoSolutionInTime
from lepton_plugins.planning.solver import AllocationProblem, keeps
from lepton_plugins.plugins import plugins
from lepton_plugins.records.spec import Budget

SOLVERS = ("milp", "greedy", "genetic", "swarm", "auto")
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


def cp_sat(problem: AllocationProblem) -> tuple[float, float]:
    """(objective, bound) of the `select` form by OR-tools' CP-SAT on two workers."""
    from ortools.sat.python import cp_model

    worth = np.round(1e6 * problem.weights * problem.utility[0]).astype(int)
    model = cp_model.CpModel()
    runs = [model.new_bool_var(version) for version in problem.versions]
    assert problem.budget.memory is not None
    memory = np.ceil(problem.memory / 2**20).astype(int).tolist()
    model.add(sum(use * x for use, x in zip(memory, runs, strict=True)) <= int(problem.budget.memory / 2**20))
    for first, second in problem.conflicts:
        model.add_at_most_one(runs[first], runs[second])
    model.maximize(sum(int(part) * x for part, x in zip(worth, runs, strict=True)))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = problem.time_limit
    solver.parameters.num_workers = 2
    solver.parameters.random_seed = problem.seed
    solver.solve(model)
    return solver.objective_value / 1e6, solver.best_objective_bound / 1e6


def measure(name: str, problem: AllocationProblem) -> None:
    """One line a solver."""
    print(f"\n{name}")
    print(f"  {'solver':10} {'seconds':>8} {'objective':>12} {'bound':>12} {'gap %':>8}")
    for solver in SOLVERS:
        start = perf_counter()
        try:
            found = plugins().load("solver", solver)().solve(problem)
        except NoSolutionInTime:
            print(f"  {solver:10} {perf_counter() - start:8.2f} no allocation in time")
            continue
        seconds = perf_counter() - start
        assert keeps(problem, found.shares, found.runs, tolerance=1e-6)
        by = "" if found.solver == solver else f"  by {found.solver}"
        print(
            f"  {solver:10} {seconds:8.2f} {found.objective:12.6g} {found.bound:12.6g} {100 * found.gap:8.3f}"
            f"  {found.status}{by}"
        )
    if problem.form == "select" and find_spec("ortools") is not None:
        start = perf_counter()
        objective, bound = cp_sat(problem)
        seconds = perf_counter() - start
        print(f"  {'CP-SAT':10} {seconds:8.2f} {objective:12.6g} {bound:12.6g} {100 * (1 - objective / bound):8.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=2000, help="the most versions")
    most = parser.parse_args().most
    for versions in (size for size in (20, 200, 2000) if size <= most):
        measure(f"mixture, {versions} versions, 10 segments", mixture(versions))
        measure(f"select, {versions} versions, 2 conflicts each", select(versions, 2))
        if versions > 20:
            measure(f"select, {versions} versions, 20 conflicts each", select(versions, 20))


if __name__ == "__main__":
    main()
