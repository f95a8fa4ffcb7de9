"""Replicas on pools where they bear alike: one number in the search, and the proof is there in time."""

from __future__ import annotations

from dataclasses import replace
from time import process_time

import numpy as np
import pytest

from lepton_plugins.planning.solver import AllocationProblem, NodePool, keeps
from lepton_plugins.records.resources import Budget
from lepton_scheduling.engine import by_scipy
from lepton_scheduling.milp import MilpSolver
from lepton_scheduling.program import Program
from lepton_scheduling.totals import Totals

_POOLS = [
    NodePool("small", 8, (4.0, 16e9, 0.0, 0.0), price=1.0),
    NodePool("large", 4, (16.0, 64e9, 0.0, 0.0), price=3.5),
    NodePool("fast", 2, (8.0, 32e9, 0.0, 0.0), price=6.0),
]


def crowded(new_problem, seed: int, speeds: tuple[float, float, float], **changes) -> AllocationProblem:
    """Better versions cost more; the nodes are short, so that whole replicas of several have to be weighed."""
    rng = np.random.default_rng(seed)
    versions, segments = 16, 8
    skill = rng.random(versions)
    rate = np.outer(1 / (0.001 + 0.02 * skill * rng.random(versions)), speeds)
    facts = {
        "utility": np.clip(0.4 + 0.2 * skill + rng.normal(0, 0.05, (segments, versions)), 0, 1),
        "weights": np.ones(versions),
        "traffic": rng.dirichlet(np.full(segments, 2.0)),
        "gpu": np.zeros(versions),
        "memory": rng.uniform(2e8, 4e9, versions),
        "pools": _POOLS,
        "rate": rate,
        "cpu": 1 / rate.max(axis=1),
        "cores": np.ones(versions),
        "budget": Budget(),
        "load": 20_000.0,
        "required": np.zeros(versions, dtype=bool),
        "time_limit": 60.0,
    }
    return new_problem(1, versions=versions, segments=segments, **(facts | changes))


@pytest.mark.parametrize("seed", [0, 3])
def test_a_crowded_cluster_is_proved_optimal_in_time(seed, new_problem):
    problem = crowded(new_problem, seed, (1.0, 1.0, 1.5))
    start = process_time()
    found = MilpSolver().solve(problem)
    assert process_time() - start < 10
    assert found.status == "optimal"
    assert found.gap <= 1e-9
    assert keeps(problem, found.shares, found.runs, found.placement, tolerance=1e-6)


@pytest.mark.parametrize(
    ("changes", "speeds"),
    [
        ({"price": 0.001}, (1.0, 1.0, 1.5)),
        ({"move": 0.001, "in_force": np.ones((16, 3), dtype=np.int64)}, (1.0, 1.0, 2.0)),
        ({"cores": np.full(16, 2.5)}, (1.0, 1.0, 1.5)),
    ],
)
def test_by_totals_the_bound_and_the_answer_are_those_of_the_whole_program(changes, speeds, new_problem):
    problem = replace(crowded(new_problem, 1, speeds, **changes), load=8_000.0)
    found = MilpSolver().solve(problem)
    program = Program(problem)
    model = program.model(program.mixture(), {})
    loose = by_scipy(model, 20.0, 1e-3)
    constant = float(problem.traffic @ np.where(problem.allowed, problem.utility, np.inf).min(axis=1))
    assert found.status == "optimal"
    assert loose.value + constant <= found.bound + 1e-9
    assert found.objective <= loose.bound + constant + 1e-9


def test_which_pools_have_a_total(new_problem):
    def multiples(*speeds: float) -> set[tuple[float, ...]]:
        program = Program(crowded(new_problem, 1, speeds))
        totals = Totals(program)
        return {tuple(totals.multiple[program.r_version == i].tolist()) for i in range(16)}

    assert multiples(1.0, 1.0, 1.5) == {(2.0, 2.0, 3.0)}
    assert multiples(1.0, 2.0, 1.25) == {(0.0, 0.0, 0.0)}, "multiples of 4, 8 and 5: too few sums are whole replicas"
    assert multiples(1.0, 1.0, 1.37) == {(0.0, 0.0, 0.0)}
    assert multiples(0.0, 0.0, 1.0) == {(0.0,)}, "on one pool the count is the total"
