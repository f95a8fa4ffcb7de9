"""Policies that make one answer of several versions', over real ONNX models."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_plugins.errors import RequestInvalid
from lepton_plugins.records.plan import PolicyDocument

from .conftest import columns, rows_of


def cascade(*versions: str, threshold: float = 0.7) -> PolicyDocument:
    stages = [
        {"version": version, "share": 0.5, "threshold": threshold, "calibration": [1.0, 0.0]} for version in versions
    ]
    del stages[-1]["threshold"], stages[-1]["calibration"]
    return PolicyDocument(kind="cascade", params={"stages": list(versions)}, document={"stages": stages})


def ensemble(how: str = "weighted", **weights: float) -> PolicyDocument:
    named = {name.removeprefix("v"): weight for name, weight in weights.items()}
    params = {"how": how, "weights": named}
    return PolicyDocument(kind="ensemble", params=params, document={"how": how, "weights": list(named.items())})


def test_only_uncertain_rows_go_on(make_router, positive):
    router = make_router(policy=cascade("1", "2"))
    rows = rows_of(50)
    answer = router.predict(columns(rows), request="r")
    first, second = positive("1", rows), positive("2", rows)
    unsure = np.maximum(first, 1 - first) < 0.7
    assert 5 < unsure.sum() < 45
    np.testing.assert_allclose(answer.values[:, 1], np.where(unsure, second, first), rtol=1e-4)
    assert [d.chosen for d in answer.decisions] == ["2" if go else "1" for go in unsure]
    assert answer.block.chosen.tolist() == answer.block.served.tolist()
    assert router.counters.arms["1"].rows == 50
    assert router.counters.arms["2"].rows == unsure.sum()
    for decision, go in zip(answer.decisions, unsure, strict=True):
        assert decision.propensity == ((0, 1, 0) if go else (1, 0, 0))
        said = "stage 2 of 2: version 1 less than 70 % sure" if go else "stage 1 of 2: at least 70 % sure"
        assert decision.reason == said
    for index in (0, 7, 23):
        alone = router.predict(columns(rows[index : index + 1]))
        np.testing.assert_allclose(alone.values[0], answer.values[index], rtol=1e-6)
        assert alone.decisions[0].reason == answer.decisions[index].reason
    with pytest.raises(RequestInvalid, match="chooses by what versions answer"):
        router.replay(answer.block)
    shown = router.explain({})
    assert shown.reason == "stage 1 of 2: answers where at least 70 % sure"
    assert shown.candidates[1].reason.startswith("stage 2: answers what is left")


def test_a_stage_that_fails_leaves_the_answer_before_it(make_router, linear_files, positive):
    models = {"1": linear_files["1"], "2": linear_files["nan"], "3": linear_files["3"]}
    router = make_router(policy=cascade("1", "2"), models=models)
    rows = rows_of(50)
    answer = router.predict(columns(rows))
    first = positive("1", rows)
    unsure = np.maximum(first, 1 - first) < 0.7
    lost = unsure & (rows[:, 0] < 0)
    assert lost.any()
    np.testing.assert_allclose(answer.values[lost, 1], first[lost], rtol=1e-4)
    for decision, failed, go in zip(answer.decisions, lost, unsure, strict=True):
        assert decision.chosen == ("2" if go else "1")
        assert decision.served == ("2" if go and not failed else "1")
        assert decision.fallback == ("output_invalid" if failed else None)
    assert router.counters.fallback_rows == lost.sum()


def test_a_first_stage_that_fails_sends_its_rows_on(make_router, linear_files, positive):
    models = {"1": linear_files["3"], "2": linear_files["nan"], "3": linear_files["1"]}
    router = make_router(policy=cascade("2", "3", threshold=0.0), models=models)
    rows = rows_of(30)
    answer = router.predict(columns(rows))
    negative = rows[:, 0] < 0
    np.testing.assert_allclose(answer.values[negative, 1], positive("1", rows)[negative], rtol=1e-4)
    assert {(d.chosen, d.served, d.fallback) for d in answer.decisions} == {
        ("2", "3", "output_invalid"),
        ("2", "2", None),
    }


def test_when_all_that_were_asked_fail_the_fallback_answers(make_router, linear_files, positive):
    models = {"1": linear_files["1"], "2": linear_files["fails"], "3": linear_files["nan"]}
    rows = -np.abs(rows_of(10))
    for policy in (cascade("2", "3"), ensemble(v2=0.5, v3=0.5)):
        router = make_router(policy=policy, models=models)
        answer = router.predict(columns(rows))
        np.testing.assert_allclose(answer.values[:, 1], positive("1", rows), rtol=1e-4)
        assert {d.served for d in answer.decisions} == {"1"}
        assert all(d.fallback for d in answer.decisions)
        assert router.counters.fallback_rows == 10


def test_an_ensemble_is_the_weighted_mean(make_router, positive):
    router = make_router(policy=ensemble(v1=0.7, v2=0.3))
    rows = rows_of(20)
    answer = router.predict(columns(rows))
    expected = 0.7 * positive("1", rows) + 0.3 * positive("2", rows)
    np.testing.assert_allclose(answer.values[:, 1], expected, rtol=1e-4)
    np.testing.assert_allclose(answer.values.sum(axis=1), 1)
    assert {(d.chosen, d.served, d.reason) for d in answer.decisions} == {
        ("1", "1", "0.7 × version 1 + 0.3 × version 2")
    }
    one = router.predict(columns(rows[:1]))
    np.testing.assert_allclose(one.values[0, 1], expected[0], rtol=1e-4)
    assert router.explain({}).candidates[1].reason == "member with weight 0.3"


def test_held_out_and_forced_rows_ask_one_version_only(make_router, positive):
    router = make_router(policy=cascade("2", "3"), around={"holdout": 0.5, "sticky": {"key": "x"}})
    rows = rows_of(200)
    answer = router.predict(columns(rows), keys=[f"k{i}" for i in range(200)])
    held = np.array([d.reason == "holdout" for d in answer.decisions])
    assert 60 < held.sum() < 140
    np.testing.assert_allclose(answer.values[held, 1], positive("1", rows)[held], rtol=1e-4)
    second, third = positive("2", rows), positive("3", rows)
    unsure = np.maximum(second, 1 - second) < 0.7
    np.testing.assert_allclose(answer.values[~held, 1], np.where(unsure, third, second)[~held], rtol=1e-4)
    assert router.counters.arms["1"].rows == held.sum()
    for decision in answer.decisions:
        assert sum(decision.propensity) == pytest.approx(1)
        assert decision.propensity[0] == pytest.approx(0.5)
    forced = router.predict(columns(rows), version="3")
    np.testing.assert_allclose(forced.values[:, 1], third, rtol=1e-4)
    assert {d.reason for d in forced.decisions} == {"forced"}


def test_a_failing_member_is_told(make_router, linear_files, positive):
    models = {"1": linear_files["1"], "2": linear_files["fails"]}
    router = make_router(policy=ensemble(v1=0.4, v2=0.6), models=models)
    rows = rows_of(10)
    answer = router.predict(columns(rows))
    np.testing.assert_allclose(answer.values[:, 1], positive("1", rows), rtol=1e-4)
    assert {(d.chosen, d.served, d.fallback) for d in answer.decisions} == {("2", "1", "model_failed")}
    assert {d.reason for d in answer.decisions} == {"0.4 × version 1 + 0.6 × version 2, without those that failed"}
