"""The circuit breaker: open after failures in a row, one trial at a time, never for the default arm."""

from __future__ import annotations

from time import sleep

import numpy as np
import pytest

from lepton_plugins.errors import ModelFailed
from lepton_plugins.routing.breaker import CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_failures_in_a_row_and_tries_again():
    clock = Clock()
    breaker = CircuitBreaker(3, 10.0, clock)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.admits()
        breaker.failed()
    assert not breaker.admits()
    clock.now += 10
    # Half-open: one caller tries, the others wait.
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.failed()
    clock.now += 19
    assert not breaker.admits()
    clock.now += 1
    assert breaker.admits()
    breaker.succeeded()
    assert all(breaker.admits() for _ in range(3))
    for _ in range(3):
        breaker.failed()
    clock.now += 10
    assert breaker.admits()


def test_the_wait_has_an_end_and_a_trial_that_is_never_heard_of_does_not_block():
    clock = Clock()
    breaker = CircuitBreaker(1, 1.0, clock)
    for _ in range(20):
        breaker.failed()
    assert breaker.until - clock.now == 16
    clock.now += 16
    assert breaker.admits()
    clock.now += 16
    assert breaker.admits()


def data(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {f"x{i}": rows[:, i] for i in range(3)}


def test_an_arm_that_fails_is_left_out_and_comes_back(make_router, linear_files, weighted_policy, positive):
    models = {"1": linear_files["1"], "2": linear_files["fails"]}
    around = {"breaker": {"failures": 3, "wait": "50ms"}}
    router = make_router(policy=weighted_policy({"1": 0.0, "2": 1.0}), models=models, around=around)
    bad, good = -np.ones((1, 3)), np.ones((1, 3))
    causes = [router.predict(data(bad)).decisions[0].fallback for _ in range(5)]
    assert causes == ["model_failed"] * 3 + ["ejected"] * 2
    answer = router.predict(data(good))
    assert (answer.decisions[0].chosen, answer.decisions[0].served) == ("2", "1")
    np.testing.assert_allclose(answer.values[:, 1], positive("1", good), rtol=1e-5)
    assert router.counters.arms["2"].failed["ejected"] == 3
    # The wait is over: the next good call closes it.
    sleep(0.06)
    assert router.predict(data(good)).decisions[0].served == "2"
    assert router.predict(data(good)).decisions[0].served == "2"
    assert "after 3 failures in a row it is left out for 0.05 s" in router.explain({}).stack[4].outcome


def test_the_default_arm_is_never_left_out(make_router, linear_files, weighted_policy):
    models = {"1": linear_files["fails"], "2": linear_files["fails"]}
    around = {"breaker": {"failures": 1}}
    router = make_router(policy=weighted_policy({"1": 1.0, "2": 0.0}), models=models, around=around)
    for _ in range(3):
        with pytest.raises(ModelFailed):
            router.predict(data(-np.ones((1, 3))))
    assert router.predict(data(np.ones((1, 3)))).decisions[0].served == "1"
