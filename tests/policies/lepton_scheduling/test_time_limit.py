"""The time limit is kept: by what one search oversteps, those after it get less."""

from __future__ import annotations

from time import monotonic, process_time, sleep

import numpy as np
import pytest

from lepton_plugins.planning.solver import NodePool
from lepton_plugins.plugins import plugins
from lepton_plugins.records.resources import Budget
from lepton_scheduling.engine import Result, Timed

_SECONDS = 2.0


@pytest.mark.parametrize("name", ["milp", "highs", "auto", "genetic"])
@pytest.mark.parametrize("kind", ["survive", "conflicts"])
def test_no_solver_works_longer_than_it_may(name, kind, new_problem):
    if name == "highs":
        pytest.importorskip("highspy")
    rng = np.random.default_rng(0)
    versions = 300
    changes: dict[str, object] = {"required": np.zeros(versions, dtype=bool), "time_limit": _SECONDS, "gap": 0.0}
    if kind == "conflicts":
        pairs = {tuple(sorted(rng.choice(versions, 2, replace=False).tolist())) for _ in range(3000)}
        problem = new_problem(
            2, versions, 4, "select", budget=Budget(memory=2 * 10**11), conflicts=sorted(pairs), **changes
        )
    else:
        rate = np.outer(rng.uniform(50, 900, versions), [1.0, 1.0, 1.37])
        pools = [NodePool(f"pool{i}", 4 + i, (4.0 * (i + 1), 16e9, 0.0, 0.0)) for i in range(3)]
        facts = {"gpu": np.zeros(versions), "rate": rate, "cpu": 1 / rate.max(axis=1), "cores": np.ones(versions)}
        problem = new_problem(
            1, versions, 8, pools=pools, survive=True, load=20_000.0, budget=Budget(), **facts, **changes
        )
    start = process_time()
    found = plugins().load("solver", name)().solve(problem)
    # Processor time: a busy machine gives less of it in the same time, never more.
    assert process_time() - start < 1.1 * _SECONDS
    assert found.bound >= found.objective


def test_what_a_search_oversteps_the_next_ones_give_back():
    given: list[float | None] = []

    def late(model, seconds, gap):
        given.append(seconds)
        sleep(seconds + 0.2)
        return Result("unknown", None, -np.inf, np.inf)

    start = monotonic()
    timed = Timed(late, start + 1.0)
    timed(None, 0.1, 0.0)
    timed(None, None, 0.0)
    assert timed.over
    assert timed(None, None, 0.0).status == "unknown"
    assert given[0] == pytest.approx(0.1)
    assert len(given) == 2, "no time was left for a third"
    assert given[1] <= 1.0 - 0.3 - 0.2
