"""Versions priced out are versions that no optimum needs; exchanges keep what sets must keep."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic

import numpy as np
import pytest

from lepton_plugins.planning.solver import limits_of, required_of
from lepton_plugins.records.resources import Budget
from lepton_scheduling.engine import Timed, by_scipy
from lepton_scheduling.exact import Exact
from lepton_scheduling.exchange import Exchange
from lepton_scheduling.milp import MilpSolver
from lepton_scheduling.pricing import Pricing
from lepton_scheduling.program import Program


@pytest.mark.parametrize("seed", range(4))
def test_priced_and_whole_programs_agree(seed, new_problem):
    problem = new_problem(
        seed, 90, 3, budget=Budget(cpu=0.5, memory=10**10, gpu=2), conflicts=[(i, i + 1) for i in range(40)]
    )
    timed = Timed(by_scipy, monotonic() + 20)
    whole = Exact(problem, "milp", timed, timed).solve()
    priced = MilpSolver().solve(problem)
    assert priced.objective == pytest.approx(whole.objective, abs=1e-6)
    assert priced.bound >= whole.objective - 1e-6


def test_prices_bound_what_any_version_could_add(new_problem):
    problem = new_problem(5, 200, 5, budget=Budget(cpu=0.5, memory=10**10, gpu=2))
    program = Program(problem)
    pricing = Pricing(program, limits_of(problem), program.mixture())
    relaxed = program.solve(program.mixture(), limits_of(problem), relaxed=True)
    assert pricing.done
    assert pricing.bound == pytest.approx(relaxed.value, abs=1e-6)
    few = pricing.best(20)
    assert pricing.outside(few) <= pricing.bound + 1e-9


def test_exchanges_better_a_set_and_keep_conflicts_and_limits():
    rng = np.random.default_rng(0)
    worth, use = rng.uniform(0.5, 1.5, 120), rng.uniform(0, 0.04, (120, 1))
    near = [np.zeros(0, dtype=np.intp) for _ in range(120)]
    for first, second in {tuple(sorted(rng.choice(120, 2, replace=False).tolist())) for _ in range(400)}:
        near[first], near[second] = np.append(near[first], second), np.append(near[second], first)
    free, start = np.ones(120, dtype=bool), np.zeros(120, dtype=bool)
    free[7], start[7] = False, True
    runs = Exchange(worth, near, use, free, start).improved(np.random.default_rng(1), lambda: False)
    assert runs[7]
    assert use[runs].sum() <= 1 + 1e-9
    assert not any(runs[others].any() for i, others in enumerate(near) if runs[i])
    greedy, taken = 0.0, np.zeros(120, dtype=bool)
    taken[7] = True
    for i in np.argsort(-worth).tolist():
        if not taken[near[i]].any() and use[taken].sum() + use[i] <= 1:
            taken[i] = True
    greedy = float(worth[taken].sum())
    assert worth[runs].sum() > greedy


@pytest.mark.parametrize("seed", range(8))
def test_on_pools_prices_are_as_tight_as_the_relaxed_program(seed, new_pooled):
    problem = new_pooled(seed, survive=seed % 2 == 0, min_share=0.1 * (seed % 3), conflicts=[(0, 1)] * (seed % 2))
    program, limits = Program(problem), limits_of(problem)
    relaxed = program.solve(program.mixture(), limits, relaxed=True)
    pricing = Pricing(program, limits, program.mixture())
    assert pricing.done == (relaxed.status == "optimal")
    if not pricing.done:
        return
    if problem.in_force is None:
        assert pricing.bound == pytest.approx(relaxed.value, abs=1e-6)
    for version in range(3):
        held = np.eye(3, dtype=bool)[version] | required_of(problem)
        forced = Program(replace(problem, required=held, min_share=0.0))
        found = forced.solve(forced.mixture(), limits, relaxed=True)
        if problem.min_share == 0 and found.status == "optimal":
            assert found.value <= pricing.bound + min(pricing.adds[version], 0.0) + 1e-6
