"""Replicas on node pools: against brute force, packing included; what nodes, prices and the plan in force change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lepton_plugins.errors import Infeasible
from lepton_plugins.planning.solver import NodePool, keeps
from lepton_plugins.plugins import plugins
from lepton_plugins.records.resources import Budget
from lepton_scheduling.milp import MilpSolver
from lepton_scheduling.packing import packed


def solver(name):
    return plugins().load("solver", name)()


def test_milp_agrees_with_brute_force_packing_included(pooled_problems):
    feasible = 0
    for problem, expected in pooled_problems:
        if expected is None:
            with pytest.raises(Infeasible):
                MilpSolver().solve(problem)
            continue
        feasible += 1
        solution = MilpSolver().solve(problem)
        assert keeps(problem, solution.shares, solution.runs, solution.placement, tolerance=2e-6)
        assert solution.objective == pytest.approx(expected, abs=1e-6)
        assert solution.bound >= expected - 1e-6
        assert solution.status == "optimal"
    assert 100 < feasible < len(pooled_problems)


@pytest.mark.parametrize("name", ["greedy", "genetic", "swarm"])
def test_heuristics_on_pools(name, pooled_problems):
    short = []
    for problem, expected in pooled_problems[:50]:
        if expected is None:
            with pytest.raises(Infeasible):
                solver(name).solve(problem)
            continue
        solution = solver(name).solve(problem)
        assert keeps(problem, solution.shares, solution.runs, solution.placement, tolerance=2e-6)
        assert expected - 1e-6 <= solution.bound
        assert solution.objective <= expected + 1e-6
        short.append(expected - solution.objective)
    assert np.mean(short) < 0.005


def test_highs_agrees_with_milp_and_begins_with_the_plan_in_force(pooled_problems):
    pytest.importorskip("highspy")
    for problem, expected in pooled_problems[:40]:
        if expected is not None:
            assert solver("highs").solve(problem).objective == pytest.approx(expected, abs=1e-6)


def one_pool(new_pooled, **changes):
    """Two versions on one pool of four nodes; the second is better and takes a whole node."""
    facts = {
        "versions": ["1", "2"],
        "segments": ["a", "b"],
        "traffic": np.array([0.5, 0.5]),
        "utility": np.array([[0.5, 0.6], [0.5, 0.7]]),
        "weights": np.ones(2),
        "allowed": np.ones((2, 2), dtype=bool),
        "cpu": np.array([0.01, 0.02]),
        "memory": np.array([1.0, 4.0]),
        "gpu": np.zeros(2),
        "gpu_memory": np.zeros(2),
        "cores": np.ones(2),
        "rate": np.array([[100.0], [50.0]]),
        "pools": [NodePool("cpu", 4, (2.0, 4.0, 0.0, 0.0), price=1.0)],
        "budget": Budget(),
        "load": 100.0,
        "headroom": 0.0,
        "required": np.zeros(2, dtype=bool),
        "survive": False,
        "price": 0.0,
        "min_share": 0.0,
        "conflicts": [],
        "form": "mixture",
        "in_force": None,
        "move": 0.0,
    }
    return replace(new_pooled(0), **(facts | changes))


def test_whole_replicas_bear_the_load_with_head_room(new_pooled):
    solution = MilpSolver().solve(one_pool(new_pooled))
    assert solution.placement.replicas.tolist() == [[0], [2]]
    assert solution.used["memory"] == 8.0
    more = MilpSolver().solve(one_pool(new_pooled, headroom=0.2))
    assert more.placement.replicas.tolist() == [[0], [3]]


def test_a_price_of_nodes_is_weighed_against_quality(new_pooled):
    cheap = MilpSolver().solve(one_pool(new_pooled, price=0.05))
    # Two nodes of the better version are worth 0.15 more than one of the other.
    assert cheap.placement.replicas.tolist() == [[0], [2]]
    assert cheap.objective == pytest.approx(0.5 * 0.7 + 0.5 * 0.6 - 2 * 0.05)
    dear = MilpSolver().solve(one_pool(new_pooled, price=0.2))
    assert dear.placement.replicas.tolist() == [[1], [0]]
    assert dear.placement.used_nodes.tolist() == [1]


def test_what_runs_already_stays_unless_moving_pays(new_pooled):
    held = np.array([[1], [0]])
    stays = MilpSolver().solve(one_pool(new_pooled, in_force=held, move=0.2))
    assert stays.placement.replicas.tolist() == [[1], [0]]
    moves = MilpSolver().solve(one_pool(new_pooled, in_force=held, move=0.01))
    assert moves.placement.replicas[1, 0] == 2


def test_without_any_one_node_the_rest_bears_the_load(new_pooled):
    problem = one_pool(new_pooled, survive=True)
    solution = MilpSolver().solve(problem)
    (nodes,) = solution.placement.nodes
    assert (nodes <= 1).all()
    demand = problem.load * (problem.traffic @ solution.shares)
    for lost in range(len(nodes)):
        left = np.delete(nodes, lost, axis=0).sum(axis=0) * problem.rate[:, 0]
        assert (left >= demand - 1e-4).all()


def test_no_replica_straddles_nodes(new_pooled):
    # 3 × 2.2 GB fit into 8 GB, but not into two nodes of 4 GB.
    problem = one_pool(
        new_pooled,
        memory=np.array([1.0, 2.2]),
        pools=[NodePool("cpu", 2, (4.0, 4.0, 0.0, 0.0))],
        load=150.0,
    )
    solution = MilpSolver().solve(problem)
    assert solution.placement.replicas.tolist() == [[1], [2]]
    assert keeps(problem, solution.shares, solution.runs, solution.placement, tolerance=1e-6)


def test_packing_says_what_is_left_over(new_pooled):
    problem = one_pool(new_pooled, memory=np.array([1.0, 2.2]))
    placement, over = packed(problem, np.array([[3], [5]]))
    assert over.tolist() == [[0], [1]]
    assert placement.replicas.tolist() == [[3], [4]]


@pytest.mark.parametrize("name", ["milp", "greedy", "auto"])
def test_infeasible_names_nodes_and_load(name, new_pooled):
    problem = one_pool(new_pooled, load=900.0)
    with pytest.raises(Infeasible) as caught:
        solver(name).solve(problem)
    assert "resources.pools.cpu.nodes: found 4; with everything else as it is the fewest that would do is 5" in str(
        caught.value
    )
    assert "resources.load: found 900 rows/s; with everything else as it is the most that can be borne is 800" in str(
        caught.value
    )


def test_infeasible_together_names_the_smallest_relaxation(new_pooled):
    problem = one_pool(new_pooled, load=900.0, budget=Budget(cpu=4))
    with pytest.raises(Infeasible) as caught:
        MilpSolver().solve(problem)
    assert (
        "the smallest relaxation that would do: resources.budget.cpu 9 cores instead of 4 cores and "
        "resources.pools.cpu.nodes 5 instead of 4" in str(caught.value)
    )
    assert "the most that can be borne is 400 rows/s" in str(caught.value)


def test_a_version_too_large_for_every_node_is_said_so(new_pooled):
    problem = one_pool(
        new_pooled, memory=np.array([1.0, 5.0]), rate=np.array([[100.0], [50.0]]), required=np.array([False, True])
    )
    with pytest.raises(Infeasible, match="version 2, which must run, fits on no node"):
        MilpSolver().solve(problem)


@pytest.mark.parametrize("name", ["greedy", "genetic", "swarm"])
def test_heuristics_keep_what_survives_a_node_where_it_is_tight(name, new_problem):
    rng = np.random.default_rng(7)
    skill = rng.random(24)
    cpu = 0.002 + 0.01 * skill
    problem = new_problem(
        7,
        24,
        3,
        utility=np.clip(0.4 + 0.3 * skill + rng.normal(0, 0.03, (3, 24)), 0, 1),
        weights=np.ones(24),
        cpu=cpu,
        gpu=np.zeros(24),
        memory=rng.uniform(2e8, 3e9, 24),
        budget=Budget(),
        load=4000.0,
        required=np.zeros(24, dtype=bool),
        pools=[NodePool("small", 4, (4.0, 16e9, 0.0, 0.0)), NodePool("large", 3, (8.0, 32e9, 0.0, 0.0))],
        rate=np.outer(1 / cpu, [1.0, 1.2]),
        cores=np.ones(24),
        survive=True,
        gap=0.001,
        time_limit=3.0,
    )
    exact, found = solver("milp").solve(problem), solver(name).solve(problem)
    assert keeps(problem, found.shares, found.runs, found.placement, tolerance=2e-6)
    assert found.objective <= exact.bound + 1e-9
    assert found.bound >= exact.objective - 1e-6
    assert found.objective >= 0.85 * exact.objective
    assert exact.gap < 0.03
