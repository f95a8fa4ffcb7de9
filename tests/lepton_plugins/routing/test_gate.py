"""When an arm is taken for too busy: by simulation with a clock of its own, so that every run is the same."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count, pairwise
from typing import NamedTuple

import pytest

from lepton_plugins.records.around import Degrade
from lepton_plugins.routing.arm_load import ArmLoad
from lepton_plugins.routing.gate import Gate

SLO, SERVICE, PARALLEL = 0.1, 0.005, 2
CAPACITY = PARALLEL / SERVICE


class Run(NamedTuple):
    """`moved` has the times of rows that went elsewhere, `changes` those at which the gate became narrow or wide."""

    arrived: list[float]
    moved: list[float]
    latencies: list[float]
    changes: list[float]
    busy: float

    def part(self, begin: float, end: float) -> float:
        """Of the rows that came in a time, the part that moved."""
        return sum(begin <= at < end for at in self.moved) / sum(begin <= at < end for at in self.arrived)


def simulate(rate: Callable[[float], float], seconds: float, *, slowdown: Callable[[float], float] = lambda _: 1.0):
    """An arm that runs two calls at once and answers all that wait by the next (`MicroBatches`); Poisson arrivals."""
    load = ArmLoad(PARALLEL)
    gate = Gate(load, Degrade(to="1"), SLO, None)
    drawn, order = random.Random(7), count()
    run = Run([], [], [], [], 0.0)
    waiting: list[float] = []
    running, busy = 0, 0.0
    events: list[tuple[float, int, list[float] | None, float]] = [(0.0, next(order), None, 0.0)]
    while events:
        now, _, ended, began = heapq.heappop(events)
        if ended is None:
            run.arrived.append(now)
            if now < seconds:
                heapq.heappush(events, (now + drawn.expovariate(rate(now)), next(order), None, 0.0))
            was = gate.narrow
            if gate.admits(1, 0.0, now, here=False):
                load.calls, load.rows = load.calls + 1, load.rows + 1
                waiting.append(now)
            else:
                run.moved.append(now)
            if gate.narrow != was:
                run.changes.append(now)
        else:
            running -= 1
            load.learn(len(ended), began, now)
            load.calls, load.rows = load.calls - len(ended), load.rows - len(ended)
            run.latencies.extend(now - at for at in ended)
        while running < PARALLEL and waiting:
            batch, waiting = waiting[:64], waiting[64:]
            took = SERVICE * len(batch) * slowdown(now) * drawn.uniform(0.8, 1.2)
            running, busy = running + 1, busy + took
            heapq.heappush(events, (now + took, next(order), batch, now))
    return run._replace(busy=busy / (PARALLEL * seconds))


@pytest.mark.parametrize("times", [1.5, 3.0, 10.0])
def test_it_moves_what_it_must_and_no_more(times):
    run = simulate(lambda _: times * CAPACITY, 10)
    must = 1 - 1 / times
    assert must - 0.02 < run.part(1, 10) < must + 0.05
    assert run.busy > 0.95
    assert max(run.latencies) < SLO
    assert len(run.changes) == 1  # It has become narrow once, and doesn't flutter.


def test_what_the_arm_bears_stays():
    run = simulate(lambda _: 0.5 * CAPACITY, 20)
    assert run.part(0, 20) < 0.003
    assert sum(took > SLO for took in run.latencies) == 0


def test_traffic_comes_back():
    run = simulate(lambda now: (3.0 if 5 <= now < 10 else 0.5) * CAPACITY, 20)
    assert run.part(5.2, 10) == pytest.approx(2 / 3, abs=0.03)
    assert run.part(10.2, 20) < 0.005
    assert max(run.latencies) < SLO
    assert 5 < run.changes[0] < 5.2
    assert 11 < run.changes[1] < 13.5  # A second (`hold`) after the last row that moved.
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(run.changes[1::2]))


def test_an_arm_that_has_become_slower_keeps_less():
    run = simulate(lambda _: 0.8 * CAPACITY, 20, slowdown=lambda now: 3.0 if 8 <= now < 14 else 1.0)
    assert run.part(9, 14) == pytest.approx(1 - 1 / 2.4, abs=0.06)
    assert run.part(17, 20) < 0.05
    late = sum(took > SLO for took in run.latencies)
    assert late < 0.002 * len(run.latencies)  # Those that were in it when it became slow.


def test_an_arm_that_is_too_slow_by_itself_is_tried_once_in_a_while():
    run = simulate(lambda _: 100.0, 18, slowdown=lambda now: 50.0 if 2 <= now < 14 else 1.0)
    tried = len([at for at in run.arrived if 8 <= at < 14 and at not in set(run.moved)])
    assert 4 <= tried <= 6
    assert run.part(15.5, 18) == 0


def test_the_same_load_is_decided_alike():
    assert simulate(lambda _: 2 * CAPACITY, 3) == simulate(lambda _: 2 * CAPACITY, 3)


def test_what_a_request_has_waited_counts():
    load = ArmLoad(2)
    for call in range(20):
        load.learn(1, call * 0.01, call * 0.01 + SERVICE)
    gate = Gate(load, Degrade(to="1"), SLO, None)
    assert load.seconds_a_row == pytest.approx(SERVICE)
    assert gate.admits(1, 0.07, 0.2, here=False)
    assert not gate.admits(1, 0.09, 0.2, here=False)
    load.rows, load.calls = 2, 2  # Both calls run; at once the bound of those who have been moved holds.
    assert gate.admits(1, 0.03, 0.2, here=False)
    assert not gate.admits(1, 0.045, 0.2, here=False)
    assert gate.admits(1, 0.045, 1.3, here=False)  # None has moved for a second.
    assert gate.moves(1.1)
    assert not gate.moves(1.3)


def test_a_call_of_many_rows_is_no_load_by_itself():
    load = ArmLoad(2)
    for call in range(20):
        load.learn(1, call * 0.01, call * 0.01 + SERVICE)
    gate = Gate(load, Degrade(to="1"), SLO, None)
    assert gate.admits(50, 0.0, 0.2, here=False)
    load.calls, load.rows = 1, 50
    assert gate.admits(1, 0.0, 0.2, here=False)  # The second call runs at once.
    load.calls, load.rows = 2, 51
    assert not gate.admits(1, 0.0, 0.2, here=False)


def test_on_the_event_loop_a_turn_holds_up_the_next():
    """All rows of a turn are answered by one call, and what comes meanwhile waits for it."""
    load = ArmLoad(2)
    for call in range(20):
        load.learn(1, call * 0.01, call * 0.01 + 0.001)
    gate = Gate(load, Degrade(to="1"), 0.0205, None)
    admitted = 0
    while gate.admits(1, 0.0, 0.2, here=True):
        load.rows += 1
        load.calls += 1
        admitted += 1
    assert admitted == 8  # Twice 8 ms within 0.8 of 20.5 ms.


def test_a_limit_of_calls_needs_no_objective():
    load = ArmLoad(2)
    gate = Gate(load, Degrade(to="1", concurrency={"2": 3}), None, 3)
    load.calls = 2
    assert gate.admits(1, 9.0, 0.0, here=False)
    load.calls = 3
    assert not gate.admits(1, 0.0, 0.0, here=False)
    assert gate.moves(0.5)
    load.calls = 2
    assert gate.admits(1, 0.0, 0.5, here=False)


def test_an_arm_that_nobody_has_timed_gets_some_calls():
    load = ArmLoad(2)
    gate = Gate(load, Degrade(to="1"), SLO, None)
    load.calls = 3
    assert gate.admits(1, 0.0, 0.0, here=False)
    load.calls = 4
    assert not gate.admits(1, 0.0, 0.0, here=False)
    assert not gate.narrow
    load.learn(1, 0.0, 3.0)
    assert load.seconds_a_row is None  # The first call's time says nothing.
