"""The exact solver: without limits, with required versions, in words where nothing fits."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest

from lepton_plugins.errors import Infeasible
from lepton_plugins.records.resources import Budget
from lepton_scheduling.milp import MilpSolver
from lepton_scheduling.outcome import worth_of


def test_without_a_budget_each_segment_gets_its_best(new_problem):
    problem = new_problem(1, versions=2000, segments=50, budget=Budget())
    start = perf_counter()
    solution = MilpSolver().solve(problem)
    assert perf_counter() - start < 0.5
    best = np.where(problem.allowed, problem.utility, -1).argmax(axis=1)
    assert (solution.shares.argmax(axis=1) == best).all()
    assert solution.gap == 0
    assert solution.status == "optimal"


def test_a_scarce_cpu_is_shared_within_a_segment(new_problem):
    problem = new_problem(
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


def test_weights_change_the_choice(new_problem):
    utility = np.array([[0.5, 0.6]])
    allowed = np.ones((1, 2), dtype=bool)
    plain = new_problem(
        1, versions=2, segments=1, allowed=allowed, utility=utility, weights=np.ones(2), budget=Budget()
    )
    heavy = new_problem(
        1, versions=2, segments=1, allowed=allowed, utility=utility, weights=np.array([2.0, 1.0]), budget=Budget()
    )
    assert MilpSolver().solve(plain).shares[0].tolist() == [0, 1]
    assert MilpSolver().solve(heavy).shares[0].tolist() == [1, 0]


def test_select_runs_what_fits(new_problem):
    problem = new_problem(
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


def test_infeasible_names_the_required_version_and_the_smallest_budget(new_problem):
    problem = new_problem(1, memory=np.full(5, 2.0**31), budget=Budget(memory=2**30))
    with pytest.raises(
        Infeasible, match=r"resources\.budget\.memory: found 1 GiB, but version 1, .* needs 2 GiB .*2 GiB"
    ):
        MilpSolver().solve(problem)


def test_infeasible_cpu_names_the_load(new_problem):
    problem = new_problem(1, cpu=np.full(5, 0.01), budget=Budget(cpu=0.25))
    with pytest.raises(Infeasible, match=r"budget\.cpu: found 0\.25 cores, but at a load of 100 rows/s .* is 1 core"):
        MilpSolver().solve(problem)


def test_infeasible_together_names_what_each_would_have_to_be(new_problem):
    problem = new_problem(
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
    assert "budget.cpu: found 1 core; with everything else as it is the smallest that would do is 2 cores" in str(
        caught.value
    )
    assert "budget.memory: found 2 B; with everything else as it is the smallest that would do is 3 B" in str(
        caught.value
    )


def test_two_hundred_versions_under_a_budget_in_seconds(new_problem):
    problem = new_problem(3, versions=200, segments=10, gap=0.001, budget=Budget(cpu=0.6, memory=2 * 10**10, gpu=4))
    start = perf_counter()
    solution = MilpSolver().solve(problem)
    assert perf_counter() - start < 8
    assert solution.objective <= solution.bound
    assert worth_of(problem, solution.shares) == pytest.approx(solution.objective)
