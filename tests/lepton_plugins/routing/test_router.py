"""The router over real ONNX models: who answers which row, and what is said about it."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from lepton_plugins.errors import (
    FeedbackUnavailable,
    Forbidden,
    InputInvalid,
    InputMissing,
    InputUnknown,
    ModelFailed,
    OutputInvalid,
    RequestInvalid,
    VersionNotFound,
)
from lepton_plugins.records.plan import Arm, ArmResources
from lepton_plugins.records.signature import Field
from lepton_plugins.routing.directory import DeploymentDirectory, write_plan
from lepton_plugins.routing.opening import gpu_of, threads_of
from lepton_plugins.routing.router import Router

CARRIER = Field(name="carrier", dtype="str", required=False)
CUSTOMER = Field(name="customer", dtype="str", required=False)
TABLE = {"AA": "1", "UA": "2", "WN": "3"}


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3))


def columns(rows: np.ndarray, **more: object) -> dict[str, object]:
    return {f"x{i}": rows[:, i] for i in range(3)} | more


@pytest.fixture
def by_carrier(make_router, segments_policy):
    return make_router(policy=segments_policy("carrier", TABLE), context=[CARRIER])


# --- who answers ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize("many", [1, 5])
def test_a_column_of_the_policy_that_is_not_there_is_told_once_and_counted(by_carrier, caplog, many):
    for _ in range(2):
        by_carrier.predict(columns(rows_of(many)))
    told = [record.getMessage() for record in caplog.records if "'carrier'" in record.getMessage()]
    assert len(told) == 1
    assert "has no column 'carrier'" in told[0]
    assert "the default is version 1" in told[0]
    assert by_carrier.missing == {"carrier": 2 * many}


def test_a_missing_value_is_no_missing_column(by_carrier, caplog):
    by_carrier.predict(columns(rows_of(2), carrier=np.array([None, None], dtype=object)))
    by_carrier.predict(columns(rows_of(2)), version="2")
    assert not caplog.records
    assert by_carrier.missing == {}


@pytest.mark.parametrize("others", [0, 4])
def test_the_null_input_is_named_and_its_row_where_nobody_has_an_answer(by_carrier, others):
    rows = np.vstack([rows_of(others).reshape(-1, 3), [1.0, np.nan, np.nan]])
    carriers = np.array([*["UA", "WN", "UA", "AA"][:others], "UA"], dtype=object)
    with pytest.raises(OutputInvalid) as raised:
        by_carrier.predict(columns(rows, carrier=carriers))
    said = f"Inputs 'x1', 'x2' are null in row {others}; version 2 and the fallback 1 gave no finite answer."
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("others", [0, 4])
def test_a_null_that_the_fallback_has_no_answer_for_is_the_requests_fault(
    make_router, linear_files, weighted_policy, others
):
    """Also where the version that was chosen doesn't give NaN for it but fails, as scikit-learn's do."""
    models = {"1": linear_files["1"], "2": linear_files["fails"]}
    router = make_router(models=models, policy=weighted_policy({"2": 1.0}))
    rows = np.vstack([np.abs(rows_of(others)).reshape(-1, 3), [-1.0, np.nan, 0.0]]).astype(np.float32)
    with pytest.raises(OutputInvalid) as raised:
        router.predict(columns(rows))
    assert str(raised.value).startswith("Input 'x1' is null in row ")
    assert "version 2 and the fallback 1 gave no finite answer" in str(raised.value)
    with pytest.raises(OutputInvalid, match=f"null in row {others};"):
        router.predict(columns(rows), version="1")


@pytest.mark.parametrize("kind", ["frame", "dict", "lists", "nullable"])
def test_data_comes_as_frame_dict_or_lists(by_carrier, positive, kind):
    rows = rows_of(5)
    data = columns(rows, carrier=np.array(["UA"] * 5, dtype=object))
    if kind == "frame":
        data = pd.DataFrame(data)
    elif kind == "lists":
        data = {name: list(values) for name, values in data.items()}
    elif kind == "nullable":
        data = pd.DataFrame(data).convert_dtypes()
        data["carrier"] = data["carrier"].astype("category")
    np.testing.assert_allclose(by_carrier.predict(data).values[:, 1], positive("2", rows), rtol=1e-5)


def test_a_matrix_is_taken_in_the_signatures_order(make_router, weighted_policy, positive):
    router = make_router(policy=weighted_policy({"2": 1.0}))
    rows = rows_of(4)
    np.testing.assert_allclose(router.predict(rows).values[:, 1], positive("2", rows), rtol=1e-5)
    with pytest.raises(RequestInvalid, match=r"\(4, 2\).*x0, x1, x2"):
        router.predict(rows[:, :2])


def test_no_rows_give_no_answers(by_carrier):
    answer = by_carrier.predict(pd.DataFrame(columns(rows_of(0), carrier=np.array([], dtype=object))))
    assert answer.values.shape == (0, 2)
    assert answer.decisions == []


def test_a_version_that_lacks_a_feature_others_have_is_given_its_own(
    make_router, write_linear, linear_files, weighted_policy, tmp_path
):
    narrow = write_linear(tmp_path / "narrow" / "model.onnx", [2.0, -1.0])
    router = make_router(models={"1": linear_files["1"], "2": narrow}, policy=weighted_policy({"2": 1.0}))
    rows = rows_of(3)
    expected = 1 / (1 + np.exp(-(rows[:, :2].astype(np.float32) @ np.array([2, -1], dtype=np.float32))))
    np.testing.assert_allclose(router.predict(columns(rows)).values[:, 1], expected, rtol=1e-5)


# --- units ---------------------------------------------------------------------------------------


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


def test_the_number_of_keys_is_checked(make_router, weighted_policy):
    router = make_router(policy=weighted_policy({"1": 1.0}))
    for n in (1, 3):
        with pytest.raises(RequestInvalid, match="2 keys"):
            router.predict(columns(rows_of(n)), keys=["a", "b"])


# --- guard, holdout ------------------------------------------------------------------------------


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


# --- what is refused -----------------------------------------------------------------------------


def test_wrong_requests_name_the_field(by_carrier):
    rows = rows_of(2)
    good = columns(rows)
    with pytest.raises(InputMissing, match="'x1'"):
        by_carrier.predict({name: good[name] for name in ("x0", "x2")})
    with pytest.raises(InputUnknown, match=r"'x9'.*Known: carrier, x0"):
        by_carrier.predict(good | {"x9": rows[:, 0]})
    with pytest.raises(InputInvalid, match=r"'x1'.*strings") as caught:
        by_carrier.predict(good | {"x1": np.array(["a", "b"])})
    assert caught.value.field == "x1"
    with pytest.raises(InputInvalid, match=r"'x2'.*3 rows"):
        by_carrier.predict(good | {"x2": np.zeros(3)})
    with pytest.raises(InputInvalid, match=r"'carrier'.*int"):
        by_carrier.predict(good | {"carrier": np.array(["AA", 7], dtype=object)})


def test_integers_do_for_doubles_and_missing_context_is_the_policys_business(by_carrier):
    answer = by_carrier.predict({f"x{i}": np.array([1, 2]) for i in range(3)})
    assert {d.served for d in answer.decisions} == {"1"}
    assert {d.context["carrier"] for d in answer.decisions} == {None}


# --- fallback ------------------------------------------------------------------------------------


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
        assert "Gather" not in message
        assert "/" not in message
        reference = message.rsplit(" ", 1)[-1].rstrip(".")
        assert reference in caplog.text
    np.testing.assert_allclose(router.predict(columns(np.ones((2, 3)))).values.sum(axis=1), 1)


def test_an_explicit_fallback_arm_is_used(make_router, linear_files, weighted_policy):
    models = {"1": linear_files["1"], "2": linear_files["fails"], "3": linear_files["3"]}
    router = make_router(models=models, policy=weighted_policy({"2": 1.0}), default="1", around={"fallback": "3"})
    assert router.predict(columns(np.full((2, 3), -1.0))).versions == ("3",)


def test_an_arm_that_takes_too_long_is_given_up(make_router, weighted_policy):
    router = make_router(policy=weighted_policy({"2": 1.0}), default="1", around={"timeout": "80ms"})
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


# --- shadow --------------------------------------------------------------------------------------


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


# --- deciding, explaining, replaying -------------------------------------------------------------


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


# --- threads, processes, start-up ----------------------------------------------------------------


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


def test_a_router_that_follows_another_loads_only_what_differs(
    build_directory, linear_files, weighted_policy, tmp_path, monkeypatch
):
    from lepton_onnxruntime import backend

    loads: list[str] = []
    real = backend.OnnxRuntimeBackend.load
    monkeypatch.setattr(
        backend.OnnxRuntimeBackend,
        "load",
        lambda self, path, **more: loads.append(path.name) or real(self, path, **more),
    )
    policy = weighted_policy({"1": 1.0})
    first = build_directory(tmp_path / "a", {"1": linear_files["1"], "2": linear_files["2"]}, policy=policy)
    second = build_directory(tmp_path / "b", {"1": linear_files["1"], "2": linear_files["3"]}, policy=policy)
    old = Router.load(first)
    new = Router.load(second)
    assert len(loads) == 3
    old.close()
    np.testing.assert_allclose(new.predict(columns(rows_of(2))).values.sum(axis=1), 1)
    new.close()
    Router.load(first).close()
    assert len(loads) == 5


def test_loading_is_light_and_fast(build_directory, linear_files, segments_policy, tmp_path):
    directory = build_directory(
        tmp_path / "deployment",
        {version: linear_files[version] for version in "123"},
        policy=segments_policy("carrier", TABLE),
        context=[CARRIER],
    )
    script = """
import sys, time
from lepton_plugins.routing.router import Router
import numpy as np
router = Router.load(sys.argv[1])
router.predict({f"x{i}": np.ones(2) for i in range(3)})
elapsed = time.process_time()  # Of all threads: what other processes do doesn't count.
heavy = [m for m in ("mlflow", "pandas", "evidently", "torch", "scipy", "sklearn", "pyarrow") if m in sys.modules]
print(elapsed, *heavy)
"""
    run = subprocess.run([sys.executable, "-c", script, str(directory)], capture_output=True, text=True, check=True)
    seconds, *heavy = run.stdout.split()
    assert heavy == []
    assert float(seconds) < 1.0


@pytest.mark.parametrize(
    ("cpu", "replicas", "processes", "expected"),
    [(None, 1, 1, None), (0.7, 1, 1, None), (3.9, 1, 1, 3), (8.0, 4, 1, 2), (8.0, 1, 2, 4), (64.0, 1, 1, 8)],
)
def test_an_arm_gets_the_threads_of_its_cores(monkeypatch, cpu, replicas, processes, expected):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    resources = ArmResources(cpu=cpu, replicas=replicas)
    arm = Arm(version="1", uri="", artifact_digest="", backend="", format="", share=1.0, resources=resources)
    assert threads_of(arm, processes) == expected


def test_each_arm_has_its_own_threads(monkeypatch, build_directory, linear_files, weighted_policy, tmp_path):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    models = {version: linear_files[version] for version in ("1", "2", "3")}
    path = build_directory(tmp_path / "deployment", models, policy=weighted_policy({"1": 0.5, "2": 0.5}))
    plan = DeploymentDirectory.open(path).plan
    arms = [
        arm.model_copy(update={"resources": ArmResources(cpu=cpu)})
        for arm, cpu in zip(plan.arms, (4.2, 0.3, None), strict=True)
    ]
    write_plan(plan.model_copy(update={"arms": tuple(arms)}), {}, path)

    def threads(router: Router) -> list[int]:
        sessions = [arm.model._session for arm in router._answerer._arms]
        return [session.get_session_options().intra_op_num_threads for session in sessions]

    with Router.load(path) as router:
        assert threads(router) == [4, 1, 1]
    with Router.load(path, threads=2) as router:
        assert threads(router) == [2, 2, 2]


def test_versions_without_a_gpu_run_beside_it():
    def arm(version: str, gpu: float | None) -> Arm:
        resources = ArmResources(gpu=gpu)
        return Arm(version=version, uri="", artifact_digest="", backend="", format="", share=0.5, resources=resources)

    one, other = arm("1", 1.0), arm("2", None)
    assert [gpu_of(arms, each) for arms in ((one, other), (other,)) for each in arms] == [True, False, None]
