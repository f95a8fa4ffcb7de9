"""The router over real ONNX models: who answers which row, and what is said about it."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lepton_plugins.errors import (
    FeedbackUnavailable,
    Forbidden,
    RequestInvalid,
    VersionNotFound,
)
from lepton_plugins.records.signature import Field

from .conftest import CARRIER, TABLE, columns, rows_of

CUSTOMER = Field(name="customer", dtype="str", required=False)


def test_each_row_is_answered_by_its_segments_version_in_order(by_carrier, positive):
    rows = rows_of(7)
    carriers = ["UA", "AA", "WN", "ZZ", None, "UA", "AA"]
    answer = by_carrier.predict(columns(rows, carrier=np.array(carriers, dtype=object)))
    versions = ["2", "1", "3", "1", "1", "2", "1"]
    assert [d.served for d in answer.decisions] == versions
    assert answer.versions == ("1", "2", "3")
    np.testing.assert_allclose(answer.values.sum(axis=1), 1)
    for index, version in enumerate(versions):
        np.testing.assert_allclose(answer.values[index, 1], positive(version, rows[index]), rtol=1e-5)


def test_one_row_and_a_batch_agree(by_carrier):
    rows = rows_of(20)
    carriers = np.array(["AA", "UA", "WN", "??", None] * 4, dtype=object)
    together = by_carrier.predict(columns(rows, carrier=carriers), request="r")
    for index in range(20):
        alone = by_carrier.predict(columns(rows[index : index + 1], carrier=carriers[index : index + 1]))
        np.testing.assert_allclose(alone.values[0], together.values[index], rtol=1e-6)
        one, many = alone.decisions[0], together.decisions[index]
        assert (one.chosen, one.segment, one.reason, one.propensity) == (
            many.chosen,
            many.segment,
            many.reason,
            many.propensity,
        )


def test_a_version_that_lacks_a_feature_others_have_is_given_its_own(
    make_router, write_linear, linear_files, weighted_policy, tmp_path
):
    narrow = write_linear(tmp_path / "narrow" / "model.onnx", [2.0, -1.0])
    router = make_router(models={"1": linear_files["1"], "2": narrow}, policy=weighted_policy({"2": 1.0}))
    rows = rows_of(3)
    expected = 1 / (1 + np.exp(-(rows[:, :2].astype(np.float32) @ np.array([2, -1], dtype=np.float32))))
    np.testing.assert_allclose(router.predict(columns(rows)).values[:, 1], expected, rtol=1e-5)


def test_a_unit_keeps_its_version_and_shares_are_met(make_router, weighted_policy):
    router = make_router(
        policy=weighted_policy({"1": 0.5, "2": 0.3, "3": 0.2}),
        around={"sticky": {"key": "customer"}},
        context=[CUSTOMER],
    )
    n = 20_000
    keys = [f"customer-{i}" for i in range(n)]
    answer = router.predict(columns(rows_of(n), customer=np.array(keys, dtype=object)))
    shares = np.bincount(answer.block.served, minlength=3) / n
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.015)
    for index in (0, 17, 4711):
        header = router.predict(columns(rows_of(1, seed=index)), keys=[keys[index]])
        column = router.predict(columns(rows_of(1), customer=np.array([keys[index]], dtype=object)))
        decided = router.decide({}, key=keys[index])
        assert header.block.served[0] == column.block.served[0] == answer.block.served[index]
        assert header.decisions[0].draw == decided.draw == answer.decisions[index].draw
        assert header.decisions[0].key == answer.decisions[index].key
        assert keys[index] not in str(answer.decisions[index])


def test_a_missing_key_draws_by_request_and_row(make_router, weighted_policy):
    router = make_router(
        policy=weighted_policy({"1": 0.5, "2": 0.5}), around={"sticky": {"key": "customer"}}, context=[CUSTOMER]
    )
    customers = np.array(["a", None, "a", None], dtype=object)
    first = router.predict(columns(rows_of(4), customer=customers), request="one")
    again = router.predict(columns(rows_of(4), customer=customers), request="one")
    other = router.predict(columns(rows_of(4), customer=customers), request="two")
    draws = [block.draws.tolist() for block in (first.block, again.block, other.block)]
    assert draws[0] == draws[1]
    assert draws[0][0] == draws[0][2] == draws[2][0]
    assert len({draws[0][1], draws[0][3], draws[2][1], draws[2][3]}) == 4
    assert [d.key is None for d in first.decisions] == [False, True, False, True]


def test_per_request_keeps_a_request_together(make_router, weighted_policy):
    router = make_router(policy=weighted_policy({"1": 0.5, "2": 0.5}), per="request")
    answers = [router.predict(columns(rows_of(50))) for _ in range(40)]
    assert all(len(answer.versions) == 1 for answer in answers)
    assert {answer.versions[0] for answer in answers} == {"1", "2"}


@pytest.mark.parametrize(
    ("guard", "may_force", "allowed"),
    [("open", False, True), ("token", False, False), ("token", True, True), ("closed", True, False)],
)
def test_the_guard_says_who_may_force_a_version(make_router, weighted_policy, positive, guard, may_force, allowed):
    router = make_router(policy=weighted_policy({"1": 1.0}), around={"guard": guard})
    rows = rows_of(3)
    if not allowed:
        with pytest.raises(Forbidden):
            router.predict(columns(rows), version="3", may_force=may_force)
        return
    for name in ("3", "v3"):
        answer = router.predict(columns(rows), version=name, may_force=may_force)
        np.testing.assert_allclose(answer.values[:, 1], positive("3", rows), rtol=1e-5)
        assert {(d.chosen, d.forced, d.reason) for d in answer.decisions} == {("3", True, "forced")}
    assert router.counters.forced_rows == 6
    with pytest.raises(VersionNotFound, match="1, 2, 3"):
        router.predict(columns(rows), version="9", may_force=may_force)


def test_held_out_units_get_the_default_and_propensities_say_so(make_router, weighted_policy):
    router = make_router(policy=weighted_policy({"2": 0.5, "3": 0.5}), around={"holdout": 0.2}, default="1")
    n = 20_000
    answer = router.predict(columns(rows_of(n)), keys=np.arange(n))
    shares = np.bincount(answer.block.served, minlength=3) / n
    np.testing.assert_allclose(shares, [0.2, 0.4, 0.4], atol=0.015)
    held = [d for d in answer.decisions[:500] if d.reason == "holdout"]
    assert held
    assert {d.served for d in held} == {"1"}
    np.testing.assert_allclose(answer.decisions[0].propensity, [0.2, 0.4, 0.4], atol=1e-4)
    # Held-out and other units meet the policy's slots alike: the holdout doesn't follow the arm's draw.
    rest = np.bincount(answer.block.served[answer.block.served > 0]) / (answer.block.served > 0).sum()
    np.testing.assert_allclose(rest[1:], [0.5, 0.5], atol=0.02)
    for index in range(50):
        one = router.predict(columns(rows_of(1)), keys=[index]).decisions[0]
        many = answer.decisions[index]
        assert (one.chosen, one.reason, one.propensity) == (many.chosen, many.reason, many.propensity)
    assert router.counters.holdout_rows >= 3500


def test_decide_and_explain_run_no_model(by_carrier):
    decision = by_carrier.decide({"carrier": "WN", "x0": 1.0})
    assert (decision.chosen, decision.segment, decision.reason) == ("3", "WN", "best in WN")
    explanation = by_carrier.explain({"carrier": "WN"}, key="me")
    assert explanation.chosen == "3"
    assert explanation.label == "v3"
    assert explanation.slot == explanation.draw >> 48
    assert [step.name for step in explanation.stack] == ["guard", "holdout", "sticky", "policy", "fallback"]
    assert [step.name for step in explanation.stack if step.decides] == ["policy"]
    assert [c.version for c in explanation.candidates] == ["1", "2", "3"]
    assert all(c.reason for c in explanation.candidates)
    assert by_carrier.counters.arms == {}
    with pytest.raises(RequestInvalid, match="carrier"):
        by_carrier.decide({"carrier": ["AA"]})


def test_logged_decisions_replay_bit_for_bit(make_router, segments_policy, weighted_policy):
    for policy, context in (
        (segments_policy("carrier", TABLE), [CARRIER]),
        (weighted_policy({"1": 0.7, "3": 0.3}), []),
    ):
        router = make_router(policy=policy, context=context, around={"holdout": 0.1})
        more = {"carrier": np.array(["AA", "UA", "WN", None] * 250, dtype=object)} if context else {}
        block = router.predict(columns(rows_of(1000), **more), keys=np.arange(1000)).block
        assert router.replay(block).tolist() == block.chosen.tolist()
        one = router.predict(columns(rows_of(1)), keys=["x"]).block
        assert router.replay(one).tolist() == one.chosen.tolist()


def test_feedback_needs_a_log(by_carrier):
    with pytest.raises(FeedbackUnavailable):
        by_carrier.feedback([{"decision": "a/0", "reward": 1.0}])


def test_many_threads_get_their_own_answers(by_carrier, positive):
    carriers = np.array(["AA", "UA", "WN"] * 10, dtype=object)

    def ask(seed: int) -> None:
        rows = rows_of(30, seed)
        values = by_carrier.predict(columns(rows, carrier=carriers)).values
        for index, carrier in enumerate(carriers):
            np.testing.assert_allclose(values[index, 1], positive(TABLE[carrier], rows[index]), rtol=1e-4)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(200)))
    assert sum(count.rows for count in by_carrier.counters.arms.values()) == 6000


def test_a_router_pickles_as_its_directory(by_carrier):
    rows = rows_of(3)
    data = columns(rows, carrier=np.array(["AA", "UA", "WN"], dtype=object))
    content = pickle.dumps(by_carrier)
    assert len(content) < 1000
    with pickle.loads(content) as again:
        np.testing.assert_array_equal(again.predict(data).values, by_carrier.predict(data).values)
