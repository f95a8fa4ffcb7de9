"""Who answers where an arm fails, and what the decision says then."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lepton_plugins.errors import (
    ModelFailed,
)

from .conftest import columns, rows_of


@pytest.mark.parametrize(("broken", "cause"), [("nan", "output_invalid"), ("fails", "model_failed")])
def test_the_fallback_answers_what_an_arm_cannot(make_router, linear_files, weighted_policy, positive, broken, cause):
    models = {"1": linear_files["1"], "2": linear_files[broken]}
    router = make_router(models=models, policy=weighted_policy({"2": 1.0}), default="1")
    rows = np.array([[0.5, 1, 1], [-0.5, 1, 1], [2, 0, 0], [-3, 1, 2]])
    answer = router.predict(columns(rows))
    negative = rows[:, 0] < 0
    # NaN takes the rows it is in; an exception takes all that the arm was asked.
    failed = negative if broken == "nan" else np.ones(4, dtype=bool)
    assert [d.fallback for d in answer.decisions] == [cause if f else None for f in failed]
    assert [d.served for d in answer.decisions] == ["1" if f else "2" for f in failed]
    assert {d.chosen for d in answer.decisions} == {"2"}
    np.testing.assert_allclose(answer.values[failed, 1], positive("1", rows[failed]), rtol=1e-5)
    np.testing.assert_allclose(answer.values[~failed, 1], positive("2", rows[~failed]), rtol=1e-5)
    one = router.predict(columns(rows[1:2])).decisions[0]
    assert (one.chosen, one.served, one.fallback) == ("2", "1", cause)
    assert router.counters.fallback_rows == failed.sum() + 1
    assert router.counters.arms["2"].failed[cause] == failed.sum() + 1


def test_when_the_fallback_fails_too_nothing_internal_is_told(make_router, linear_files, weighted_policy, caplog):
    models = {"1": linear_files["fails"], "2": linear_files["nan"]}
    router = make_router(models=models, policy=weighted_policy({"2": 1.0}), default="1")
    for n in (1, 3):
        with pytest.raises(ModelFailed) as caught:
            router.predict(columns(np.full((n, 3), -2.0)))
        message = str(caught.value)
        assert message.startswith(
            "No version could answer: version 2 (output_invalid), then version 1 (model_failed). "
        )
        assert "Gather" not in message
        assert "/" not in message
        reference = message.rsplit(" ", 1)[-1].rstrip(".")
        assert reference in caplog.text
    np.testing.assert_allclose(router.predict(columns(np.ones((2, 3)))).values.sum(axis=1), 1)


def test_an_explicit_fallback_arm_is_used(make_router, linear_files, weighted_policy):
    models = {"1": linear_files["1"], "2": linear_files["fails"], "3": linear_files["3"]}
    router = make_router(models=models, policy=weighted_policy({"2": 1.0}), default="1", around={"fallback": "3"})
    assert router.predict(columns(np.full((2, 3), -1.0))).versions == ("3",)


def test_rows_that_the_fallback_has_no_answer_for_go_on_to_the_default(
    make_router, linear_files, weighted_policy, positive
):
    models = {"1": linear_files["1"], "2": linear_files["fails"], "3": linear_files["nan"]}
    router = make_router(models=models, policy=weighted_policy({"2": 1.0}), default="1", around={"fallback": "3"})
    rows = np.array([[-0.5, 1, 1], [0.5, 1, 1], [-3, 1, 2], [-2, 0, 0]])
    answer = router.predict(columns(rows))
    assert [d.served for d in answer.decisions] == ["1", "3", "1", "1"]
    np.testing.assert_allclose(answer.values[[0, 2, 3], 1], positive("1", rows[[0, 2, 3]]), rtol=1e-5)
    assert router.counters.fallback_rows == 4


def test_an_arm_that_takes_too_long_is_given_up(make_router, weighted_policy):
    router = make_router(policy=weighted_policy({"2": 1.0}), default="1", around={"timeout": "80ms", "breaker": None})
    assert router.predict(columns(rows_of(2))).versions == ("2",)
    slow = router._answerer._arms[1]
    release = threading.Event()
    real = slow.model

    class Slow:
        classes = real.classes
        signature = real.signature

        def predict(self, given, output):
            release.wait(10)
            return real.predict(given, output)

        def close(self):
            pass

    slow.model = Slow()
    try:
        for n in (1, 3):
            answer = router.predict(columns(rows_of(n)))
            assert [d.fallback for d in answer.decisions] == ["timed_out"] * n
            assert answer.versions == ("1",)
        with ThreadPoolExecutor(40) as pool:
            codes = [
                answer.decisions[0].fallback
                for answer in pool.map(lambda _: router.predict(columns(rows_of(1))), range(40))
            ]
        # No more than a bounded number of calls hang at once; the rest is answered by the fallback right away.
        assert set(codes) == {"timed_out", "overloaded"}
    finally:
        release.set()
        slow.model = real
