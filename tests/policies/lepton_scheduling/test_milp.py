"""The exact solver: against brute force, with required versions, in words where nothing fits."""

from __future__ import annotations

from itertools import product
from time import perf_counter

import numpy as np
import pytest
from scipy.optimize import linprog

from lepton_plugins.errors import Infeasible
from lepton_plugins.planning.solver import AllocationProblem, used_by
from lepton_plugins.records.spec import Budget
from lepton_scheduling.milp import MilpSolver, chosen_worth, worth_of


def problem_of(seed: int, versions: int = 5, segments: int = 3, form: str = "mixture", **changes) -> AllocationProblem:
    rng = np.random.default_rng(seed)
    allowed = rng.random((segments, versions)) < 0.8
    allowed[:, 0] = True
    facts = {
        "versions": [str(i + 1) for i in range(versions)],
        "segments": [f"s{i}" for i in range(segments)],
        "traffic": rng.dirichlet(np.ones(segments)),
        "utility": rng.uniform(0.3, 0.7, (segments, versions)),
        "weights": np.ones(versions) if seed % 2 else rng.uniform(0.5, 1.5, versions),
        "allowed": allowed,
        "cpu": rng.uniform(0.001, 0.02, versions),
        "memory": rng.uniform(1e8, 4e9, versions),
        "gpu": (rng.random(versions) < 0.4).astype(float),
        "gpu_memory": np.zeros(versions),
        "budget": Budget(cpu=rng.uniform(0.5, 1.5), memory=int(rng.uniform(3e9, 8e9)), gpu=1),
        "load": 100.0,
        "required": np.eye(versions, dtype=bool)[0],
        "form": form,
        "gap": 0.0,
    }
    return AllocationProblem(**(facts | changes))


def brute_force(problem: AllocationProblem) -> float | None:
    """The best objective over every set of versions; the shares of each set by a linear program of its own."""
    segments, versions = problem.allowed.shape
    best: tuple[float, float] | None = None
    for pattern in product([False, True], repeat=versions):
        runs = np.array(pattern)
        if (problem.required & ~runs).any():
            continue
        fixed = used_by(problem, np.zeros((segments, versions)), runs)
        if any(fixed[r] > getattr(problem.budget, r) for r in ("memory", "gpu")):
            continue
        usable = problem.allowed & runs
        if not usable.any(axis=1).all():
            continue
        worth = (problem.traffic[:, None] * problem.utility * problem.weights).ravel()
        whole = np.kron(np.eye(segments), np.ones(versions))
        cpu = (problem.load * problem.traffic[:, None] * problem.cpu[None, :]).reshape(1, -1)
        result = linprog(
            -worth,
            A_ub=cpu,
            b_ub=[problem.budget.cpu],
            A_eq=whole,
            b_eq=np.ones(segments),
            bounds=[(0, float(ok)) for ok in usable.ravel()],
        )
        if result.status == 0:
            key = (chosen_worth(problem, runs), -result.fun) if problem.form == "select" else (-result.fun, 0.0)
            best = key if best is None else max(best, key)
    return None if best is None else best[0]


@pytest.mark.parametrize("form", ["mixture", "select"])
def test_agrees_with_brute_force(form):
    feasible = 0
    for seed in range(40):
        problem = problem_of(seed, form=form)
        expected = brute_force(problem)
        if expected is None:
            with pytest.raises(Infeasible):
                MilpSolver().solve(problem)
            continue
        feasible += 1
        solution = MilpSolver().solve(problem)
        assert solution.status == "optimal"
        assert solution.objective == pytest.approx(expected, abs=1e-6)
        assert solution.bound >= solution.objective
        assert solution.gap <= 1e-4
        assert np.allclose(solution.shares.sum(axis=1), 1)
        assert not solution.shares[~problem.allowed].any()
        assert not solution.shares[:, ~solution.runs].any()
        assert solution.runs[0]
        for resource in ("cpu", "memory", "gpu"):
            assert solution.used[resource] <= getattr(problem.budget, resource) * (1 + 1e-6)
    assert 10 < feasible < 40


def test_without_a_budget_each_segment_gets_its_best():
    problem = problem_of(1, versions=2000, segments=50, budget=Budget())
    start = perf_counter()
    solution = MilpSolver().solve(problem)
    assert perf_counter() - start < 0.5
    best = np.where(problem.allowed, problem.utility, -1).argmax(axis=1)
    assert (solution.shares.argmax(axis=1) == best).all()
    assert solution.gap == 0
    assert solution.status == "optimal"


def test_a_scarce_cpu_is_shared_within_a_segment():
    problem = problem_of(
        1,
        versions=2,
        segments=1,
        allowed=np.ones((1, 2), dtype=bool),
        utility=np.array([[0.5, 0.6]]),
        cpu=np.array([0.001, 0.01]),
        memory=np.zeros(2),
        gpu=np.zeros(2),
        required=np.array([True, False]),
        budget=Budget(cpu=0.55),
    )
    solution = MilpSolver().solve(problem)
    assert solution.shares[0] == pytest.approx([0.5, 0.5])
    assert solution.used["cpu"] == pytest.approx(0.55)


def test_weights_change_the_choice():
    utility = np.array([[0.5, 0.6]])
    allowed = np.ones((1, 2), dtype=bool)
    plain = problem_of(1, versions=2, segments=1, allowed=allowed, utility=utility, weights=np.ones(2), budget=Budget())
    heavy = problem_of(
        1, versions=2, segments=1, allowed=allowed, utility=utility, weights=np.array([2.0, 1.0]), budget=Budget()
    )
    assert MilpSolver().solve(plain).shares[0].tolist() == [0, 1]
    assert MilpSolver().solve(heavy).shares[0].tolist() == [1, 0]


def test_select_runs_what_fits():
    problem = problem_of(
        1,
        versions=3,
        segments=1,
        form="select",
        allowed=np.ones((1, 3), dtype=bool),
        utility=np.array([[0.9, 0.5, 0.5]]),
        memory=np.array([2.0, 1.0, 1.0]),
        gpu=np.zeros(3),
        required=np.zeros(3, dtype=bool),
        budget=Budget(memory=2),
    )
    solution = MilpSolver().solve(problem)
    assert solution.runs.tolist() == [False, True, True]
    assert solution.objective == pytest.approx(1.0)


def test_infeasible_names_the_required_version_and_the_smallest_budget():
    problem = problem_of(1, memory=np.full(5, 2.0**31), budget=Budget(memory=2**30))
    with pytest.raises(
        Infeasible, match=r"resources\.budget\.memory: found 1 GiB, but version 1, .* needs 2 GiB .*2 GiB"
    ):
        MilpSolver().solve(problem)


def test_infeasible_cpu_names_the_load():
    problem = problem_of(1, cpu=np.full(5, 0.01), budget=Budget(cpu=0.25))
    with pytest.raises(Infeasible, match=r"budget\.cpu: found 0\.25 cores, but at a load of 100 rows/s .* is 1 core"):
        MilpSolver().solve(problem)


def test_infeasible_together_names_what_each_would_have_to_be():
    problem = problem_of(
        1,
        versions=2,
        segments=1,
        allowed=np.ones((1, 2), dtype=bool),
        cpu=np.array([0.02, 0.001]),
        memory=np.array([1.0, 3.0]),
        gpu=np.zeros(2),
        required=np.zeros(2, dtype=bool),
        budget=Budget(cpu=1.0, memory=2),
    )
    with pytest.raises(Infeasible) as caught:
        MilpSolver().solve(problem)
    assert "budget.cpu: found 1 core; with the other budgets as they are the smallest that would do is 2 cores" in str(
        caught.value
    )
    assert "budget.memory: found 2 B; with the other budgets as they are the smallest that would do is 3 B" in str(
        caught.value
    )


def test_two_hundred_versions_under_a_budget_in_seconds():
    problem = problem_of(3, versions=200, segments=10, gap=0.001, budget=Budget(cpu=0.6, memory=2 * 10**10, gpu=4))
    start = perf_counter()
    solution = MilpSolver().solve(problem)
    assert perf_counter() - start < 8
    assert solution.objective <= solution.bound
    assert worth_of(problem, solution.shares) == pytest.approx(solution.objective)
