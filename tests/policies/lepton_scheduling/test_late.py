"""Answers that come too late: so many of a mixture's may, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lepton_plugins.errors import Infeasible
from lepton_plugins.planning.solver import keeps, late_of
from lepton_plugins.plugins import plugins
from lepton_plugins.records.resources import Budget


def hurried(new_problem, **changes):
    """Better versions are later, and the budget of CPU is short as well."""
    rng = np.random.default_rng(3)
    skill = rng.random(40)
    return new_problem(
        5,
        40,
        4,
        utility=np.clip(0.4 + 0.2 * skill + rng.normal(0, 0.02, (4, 40)), 0, 1),
        weights=np.ones(40),
        late=0.1 * skill**4,
        most_late=0.01,
        budget=Budget(cpu=0.9, memory=4 * 10**10, gpu=9),
        gap=0.001,
        time_limit=5.0,
        **changes,
    )


@pytest.mark.parametrize("name", ["milp", "greedy", "genetic", "swarm"])
def test_no_solver_lets_more_answers_be_late(name, new_problem):
    problem = hurried(new_problem)
    found = plugins().load("solver", name)().solve(problem)
    assert keeps(problem, found.shares, found.runs, tolerance=1e-6)
    assert late_of(problem, found.shares) <= 0.01 * (1 + 1e-6)
    free = plugins().load("solver", "milp")().solve(replace(problem, most_late=None))
    assert late_of(problem, free.shares) > 0.01
    assert found.objective <= free.bound
    exact = plugins().load("solver", "milp")().solve(problem)
    assert found.objective >= 0.97 * exact.objective
    assert found.bound >= exact.objective - 1e-9


def test_where_all_are_too_late_the_least_part_is_named(new_problem):
    problem = hurried(new_problem)
    problem = replace(problem, late=problem.late + 0.03)
    with pytest.raises(Infeasible, match=r"slo.mixture_p99: found 1 % .* the least part of late answers .* 3"):
        plugins().load("solver", "auto")().solve(problem)
