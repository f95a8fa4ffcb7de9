"""All solvers against brute force, and on problems of which only a bound is known."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest

from lepton_plugins.errors import Infeasible, NoSolutionInTime
from lepton_plugins.plugins import plugins
from lepton_plugins.records.resources import Budget

SOLVERS = ("auto", "milp", "highs", "greedy", "genetic", "swarm")
#: How far below the optimum each may be, on the average of the small problems.
SHORT = {"auto": 0.0, "milp": 0.0, "highs": 0.0, "greedy": 0.01, "genetic": 0.002, "swarm": 0.002}


def solver(name):
    return plugins().load("solver", name)()


@pytest.mark.parametrize("name", SOLVERS)
def test_against_brute_force(name, small_problems, kept):
    short, feasible = [], 0
    for problem, expected in small_problems:
        if expected is None:
            with pytest.raises(Infeasible):
                solver(name).solve(problem)
            continue
        feasible += 1
        solution = solver(name).solve(problem)
        kept(problem, solution)
        assert solution.objective <= expected + 1e-6
        assert solution.bound >= expected - 1e-6
        if solution.status == "optimal":
            assert solution.objective == pytest.approx(expected, abs=1e-6)
        short.append(1 - solution.objective / expected)
    assert 80 < feasible < len(small_problems)
    assert np.mean(short) <= SHORT[name] + 1e-7
    if name in ("auto", "milp", "highs"):
        assert max(short) < 1e-6


@pytest.mark.parametrize("form", ["mixture", "select"])
@pytest.mark.parametrize(("name", "most"), [("greedy", 0.06), ("genetic", 0.03), ("swarm", 0.05)])
def test_near_the_bound_with_two_hundred_versions(name, most, form, new_problem, kept):
    problem = new_problem(
        3,
        200,
        10,
        form,
        budget=Budget(cpu=0.6, memory=2 * 10**10, gpu=4),
        conflicts=[(i, i + 1) for i in range(150)],
        # Steps end the search, not a busy machine's clock.
        time_limit=30.0,
    )
    solution = solver(name).solve(problem)
    kept(problem, solution)
    assert solution.gap <= most


@pytest.mark.parametrize("name", ["genetic", "swarm"])
def test_the_seed_decides(name, new_problem):
    problem = new_problem(4, 40, 4, "select", budget=Budget(cpu=0.6, memory=10**10, gpu=2), time_limit=60)
    first, second = solver(name).solve(problem), solver(name).solve(problem)
    assert np.array_equal(first.shares, second.shares)
    assert first.objective == second.objective
    assert solver(name).solve(replace(problem, seed=1)).objective > 0.9 * first.objective


def test_auto_takes_the_heuristics_answer_where_the_proof_takes_too_long(new_problem, kept):
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.choice(150, 2, replace=False).tolist()) for _ in range(1500)]
    problem = new_problem(
        2,
        150,
        4,
        "select",
        required=np.zeros(150, dtype=bool),
        budget=Budget(memory=2 * 10**11),
        conflicts=pairs,
        time_limit=1.0,
    )
    start = perf_counter()
    solution = solver("auto").solve(problem)
    assert perf_counter() - start < 8
    kept(problem, solution)
    assert solution.status == "feasible"
    assert solution.solver in ("milp", "genetic")
    assert solution.objective >= solver("greedy").solve(problem).objective - 1e-9


def test_no_time_is_said_so(new_problem):
    problem = new_problem(3, 200, 10, budget=Budget(cpu=0.6, memory=2 * 10**10, gpu=4), time_limit=1e-6)
    with pytest.raises(NoSolutionInTime, match="milp"):
        solver("milp").solve(problem)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"required": np.array([True, True, False]), "conflicts": [(1, 0)]},
            r"resources\.conflicts: versions 2 and 1 must both run",
        ),
        (
            {"required": np.array([True, True, False]), "max_versions": 1},
            r"resources\.max_versions: found 1, but version 1, 2, which must run, needs 2 and the least .* is 2",
        ),
        (
            {"allowed": np.array([[1, 0, 0], [0, 1, 0]], dtype=bool), "conflicts": [(0, 1)]},
            r"resources\.conflicts: without the one of versions 1 and 2 there is one",
        ),
        (
            {"allowed": np.array([[0, 1, 0], [0, 0, 1]], dtype=bool), "min_share": 0.3},
            r"resources\.min_share: found 0\.3; with 0\.2 there is one",
        ),
    ],
)
@pytest.mark.parametrize("name", SOLVERS)
def test_infeasible_in_words(name, changes, said, new_problem):
    facts = {
        "allowed": np.ones((2, 3), dtype=bool),
        "traffic": np.array([0.2, 0.8]),
        "required": np.zeros(3, dtype=bool),
        "budget": Budget(),
    }
    with pytest.raises(Infeasible, match=said):
        solver(name).solve(new_problem(1, 3, 2, **(facts | changes)))
