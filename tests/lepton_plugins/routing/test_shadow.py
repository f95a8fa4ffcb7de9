"""Shadows answer beside the chosen arm, unseen and never in the way."""

from __future__ import annotations

import threading

import pytest

from .conftest import columns, rows_of


def test_shadows_answer_unseen_and_are_compared(make_router, weighted_policy, positive):
    router = make_router(policy=weighted_policy({"1": 1.0}), around={"shadow": ["2"]})
    rows = rows_of(200)
    answer = router.predict(columns(rows))
    router.predict(columns(rows[:1]))
    router.settle()
    assert answer.versions == ("1",)
    assert answer.decisions[0].shadows == ("2",)
    count = router.counters.shadows["2"]
    agree = (positive("1", rows) > 0.5) == (positive("2", rows) > 0.5)
    first = (positive("1", rows[:1]) > 0.5) == (positive("2", rows[:1]) > 0.5)
    assert (count.compared, count.agreed) == (201, agree.sum() + first.sum())
    assert count.agreement == pytest.approx(count.agreed / 201)


def test_a_slow_shadow_drops_and_never_delays(make_router, weighted_policy):
    router = make_router(policy=weighted_policy({"1": 1.0}), around={"shadow": ["2"]})
    release = threading.Event()
    real = router._shadows._arms[0].model

    class Slow:
        def predict(self, given, output):
            release.wait(10)
            return real.predict(given, output)

    router._shadows._arms[0].model = Slow()
    answers = [router.predict(columns(rows_of(1))) for _ in range(400)]
    assert router.counters.shadows["2"].dropped > 100
    assert answers[-1].decisions[0].shadows == ()
    release.set()
    router._shadows._arms[0].model = real
