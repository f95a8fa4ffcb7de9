"""Under load a cheaper arm serves what another was chosen for, and the decision says so."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Semaphore
from typing import Any

import numpy as np
import pytest

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.router import Router

LIMIT = {"degrade": {"to": "1", "concurrency": {"2": 2}}}


def columns(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    made = np.random.default_rng(seed).normal(size=(rows, 3))
    return {f"x{i}": made[:, i] for i in range(3)}


@contextmanager
def occupied(router: Router, version: str, calls: int) -> Iterator[None]:
    """So many calls of one version that end when the block does."""
    index = [arm.version for arm in router.plan.arms].index(version)
    arm, began, go = router._answerer._arms[index], Semaphore(0), Event()
    answer = arm.predict

    def held(given: Any, rows: int) -> Any:
        began.release()
        assert go.wait(20)
        return answer(given, rows)

    arm.predict = held  # type: ignore[method-assign]
    with ThreadPoolExecutor(calls) as threads:
        made = [threads.submit(router.predict, columns(1)) for _ in range(calls)]
        try:
            for _ in made:
                assert began.acquire(timeout=20)
            arm.predict = answer  # type: ignore[method-assign]
            yield
        finally:
            go.set()
            for one in made:
                assert one.result(20).versions == (version,)


def all_to(version: str) -> PolicyDocument:
    return PolicyDocument(kind="weighted", document={"slots": [[version, 65536]]})


def test_what_was_chosen_stays_and_what_served_is_told(make_router, positive):
    router = make_router(policy=all_to("2"), around=LIMIT)
    rows = columns(1, seed=3)
    matrix = np.stack(list(rows.values()), axis=1)
    with occupied(router, "2", 2):
        found = router.predict(rows)
        steps = {step.name: step.outcome for step in router.explain({}).stack}
    decision = found.decisions[0]
    assert (decision.chosen, decision.served, decision.fallback) == ("2", "1", "degraded")
    assert decision.propensity == (0, 1, 0)
    assert decision.reason == router.decide({}).reason
    assert found.values[0, 1] == pytest.approx(positive("1", matrix)[0], abs=1e-5)
    assert dict(router.counters.degraded_rows) == {"2": 1}
    assert router.counters.fallback_rows == 0
    assert list(steps) == ["guard", "holdout", "sticky", "policy", "degrade", "fallback"]
    assert steps["degrade"] == (
        "version 1 answers where version 2 can't with at most 2 calls at once; some of its rows move now"
    )
    assert router.degrading == ("2",)
    again = router.predict(rows).decisions[0]
    assert (again.served, again.fallback) == ("2", None)


def test_a_replay_finds_what_was_chosen(make_router):
    router = make_router(policy=all_to("2"), around={**LIMIT, "sticky": {"key": "unit"}})
    with occupied(router, "2", 2):
        block = router.predict(columns(20), keys=[f"u{n}" for n in range(20)]).block
    assert block.served.tolist() == [0] * 20
    assert router.replay(block).tolist() == block.chosen.tolist() == [1] * 20


def test_rows_of_one_caller_stay_together_and_of_many_move_singly(make_router, weighted_policy):
    around = {"degrade": {"to": "1", "concurrency": {"2": 3}}}
    router = make_router(policy=weighted_policy({"1": 0.3, "2": 0.7}), around=around)
    with occupied_by_key(router):
        together = router.predict(columns(30))
        assert set(together.block.served[together.block.chosen == 1]) == {1}
        apart = router.predict_columns(columns(30), 30, apart=True)
    chosen, served = apart.block.chosen, apart.block.served
    assert (served[chosen == 0] == 0).all()
    assert (served[chosen == 1] == 1).sum() == 1  # Two are in it already.
    causes = np.array(apart.block.fallback, dtype=object)
    assert set(causes[served != chosen]) == {"degraded"}
    assert set(causes[served == chosen]) == {None}
    assert router.counters.degraded_rows["2"] == (chosen == 1).sum() - 1


@contextmanager
def occupied_by_key(router: Router) -> Iterator[None]:
    """Two calls count in version 2."""
    assert router._degrader is not None
    for _ in range(2):
        assert router._degrader.enters(1, 1, None)
    yield
    for _ in range(2):
        router._degrader.leaves(1, 1)


def test_forced_rows_go_where_they_were_sent(make_router):
    router = make_router(policy=all_to("2"), around=LIMIT)
    with occupied(router, "2", 2):
        found = router.predict(columns(3), version="2")
    assert found.versions == ("2",)
    assert not router.counters.degraded_rows


def test_a_cheaper_arm_that_fails_is_answered_by_the_fallback(make_router, linear_files):
    models = {"1": linear_files["fails"], "2": linear_files["2"], "3": linear_files["3"]}
    router = make_router(models=models, policy=all_to("2"), around={**LIMIT, "fallback": "3"}, default="2")
    bad = {f"x{i}": np.array([-1.0]) for i in range(3)}
    with occupied(router, "2", 2):
        decision = router.predict(bad).decisions[0]
    assert (decision.chosen, decision.served, decision.fallback) == ("2", "3", "model_failed")


def test_the_dear_stage_of_a_cascade_is_left_out(make_router, positive):
    stages = [{"version": "1", "share": 0.5, "threshold": 1.0, "calibration": [1.0, 0.0]}, {"version": "2", "share": 1}]
    cascade = PolicyDocument(kind="cascade", params={"stages": ["1", "2"]}, document={"stages": stages})
    router = make_router(policy=cascade, around=LIMIT)
    rows = columns(5)
    matrix = np.stack(list(rows.values()), axis=1)
    assert router.predict(rows).versions == ("2",)
    with occupied_by_key(router):
        found = router.predict(rows)
    np.testing.assert_allclose(found.values[:, 1], positive("1", matrix), rtol=1e-4)
    assert [(d.served, d.fallback) for d in found.decisions] == [("1", "degraded")] * 5
    assert router.predict(rows).versions == ("2",)


def test_an_ensemble_without_its_dear_member(make_router, positive):
    document = {"how": "weighted", "weights": [["2", 0.5], ["3", 0.5]]}
    ensemble = PolicyDocument(
        kind="ensemble", params={"how": "weighted", "weights": {"2": 0.5, "3": 0.5}}, document=document
    )
    router = make_router(policy=ensemble, around={"degrade": {"to": "1", "concurrency": {"2": 2, "3": 1}}})
    rows = columns(2)
    matrix = np.stack(list(rows.values()), axis=1)
    with occupied_by_key(router):
        one = router.predict(rows)
        np.testing.assert_allclose(one.values[:, 1], positive("3", matrix), rtol=1e-4)
        assert {d.fallback for d in one.decisions} == {"degraded"}
        assert router._degrader.enters(2, 1, None)
        nobody = router.predict(rows)  # No member may be asked: the cheaper arm answers, not the default's queue.
        router._degrader.leaves(2, 1)
    np.testing.assert_allclose(nobody.values[:, 1], positive("1", matrix), rtol=1e-4)
    assert {(d.served, d.fallback) for d in nobody.decisions} == {("1", "degraded")}


def test_of_streams_those_beyond_the_limit_move(make_router):
    router = make_router(policy=all_to("2"), around=LIMIT | {"breaker": None})
    for arm in router._answerer._arms:
        arm.stream = lambda *_, version=arm.version: iter([version, "end"])
    opened = [router.stream(columns(1)) for _ in range(2)]
    third = router.stream(columns(1))
    assert list(third.parts) == ["1", "end"]
    assert (third.block.chosen[0], third.block.served[0], third.block.fallback) == (1, 0, ["degraded"])
    assert list(opened[0].parts) == ["2", "end"]
    again = router.stream(columns(1))
    assert again.block.fallback is None
    again.parts.close()
    del opened[1]  # Nobody read it.
    assert list(router.stream(columns(1)).parts) == ["2", "end"]
    assert all(gate.load.calls == gate.load.rows == 0 for gate in router._degrader._gates)


def test_a_quarter_of_a_servers_threads_stays_for_the_cheaper_arm(build_directory, linear_files, tmp_path):
    models = {version: linear_files[version] for version in ("1", "2", "3")}
    around = {"degrade": {"to": "1", "concurrency": {"3": 99}}}
    path = build_directory(tmp_path / "deployment", models, policy=all_to("2"), around=around)
    with Router.load(path, call_threads=8) as router:
        door = router._degrader
        assert all(door.enters(arm, 1, None) for arm in (1, 2, 1, 2, 1, 1))
        assert not door.enters(2, 1, None)
        assert router.predict(columns(1)).decisions[0].fallback == "degraded"
        assert door.enters(0, 1, None)
        door.leaves(1, 1)
        assert router.predict(columns(1)).decisions[0].fallback is None


def test_shadows_wait_meanwhile(make_router):
    router = make_router(policy=all_to("2"), around={**LIMIT, "shadow": ["3"]})
    router.predict(columns(2))
    with occupied_by_key(router):
        found = router.predict(columns(1))
    assert found.decisions[0].served == "1"
    assert found.decisions[0].shadows == ()
    router.settle()
    assert router.counters.shadows["3"].compared == 2
    assert router.counters.shadows["3"].dropped == 1


def test_many_threads_never_exceed_the_limit(make_router):
    router = make_router(policy=all_to("2"), around={"degrade": {"to": "1", "concurrency": {"2": 3}}})
    arm = router._answerer._arms[1]
    answer, seen, inside = arm.predict, [], []

    def watched(given: Any, rows: int) -> Any:
        inside.append(1)
        seen.append(len(inside))
        try:
            return answer(given, rows)
        finally:
            inside.pop()

    arm.predict = watched
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda n: router.predict(columns(1, n)).decisions[0], range(400)))
    assert max(seen) <= 3
    assert {(d.chosen, d.served, d.fallback) for d in found} <= {("2", "2", None), ("2", "1", "degraded")}
    assert sum(d.served == "1" for d in found) == router.counters.degraded_rows["2"]
    assert all(gate.load.calls == gate.load.rows == 0 for gate in router._degrader._gates)
