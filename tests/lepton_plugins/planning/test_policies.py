"""Plans of the policies that come with Lepton: what they refuse, keep running and promise."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_plugins.errors import GainMissing, PolicyUnfit, RuleInvalid
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.segments import segment_shares
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.records.report import BatchLatency
from lepton_plugins.routing.policy import Choice


def planned(world, kind, params, **spec):
    return make_plan(
        world.registry, parse_spec({"model": "flights", "policy": {"kind": kind, "params": params}, **spec})
    )


def ruled(world, *rules, **spec):
    return planned(world, "rules", {"rules": list(rules)}, **spec)


def test_rules_say_what_they_gain(split_world):
    found = ruled(split_world, {"when": 'carrier in ["DL", "UA"]', "use": 2})
    assert [arm.version for arm in found.plan.arms] == ["1", "2"]
    assert 0.01 < found.plan.gain.low < found.plan.gain.value
    assert {item.reason for item in found.segments} == {'rule 1: carrier in ["DL", "UA"]', "no rule holds"}
    assert found.plan.signature.inputs[-1].name == "carrier"


def test_a_version_runs_even_if_no_evaluated_row_asks_for_it(split_world):
    found = ruled(split_world, {"when": 'header["x-tenant"] == "gold"', "use": 3})
    assert {arm.version: arm.share for arm in found.plan.arms} == {"1": 1, "3": 0}
    (field,) = [field for field in found.plan.signature.inputs if field.name == "header:x-tenant"]
    assert not field.required


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ('carier == "DL"', "nobody knows the column 'carier'. Known columns: signal, carrier"),
        ("carrier > 5", "carrier is str"),
        ('signal.startsWith("a")', "signal is float64"),
        ("signal + 1 > 5", "signal is float64"),
        ("size(carrier)", "it gives int, expected true or false"),
        ("soundex(carrier) == 'x'", "soundex"),
    ],
)
def test_rules_are_checked_against_the_signature(split_world, when, said):
    with pytest.raises(RuleInvalid) as error:
        ruled(split_world, {"when": when, "use": 2})
    assert said in str(error.value)
    assert "policy.params.rules.0.when" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "params", "why"),
    [
        ("cascade", {"stages": [1, 2]}, "cascade asks it for no row"),
        ("ensemble", {"members": [1, 2]}, "ensemble asks it for no row"),
        ("rules", {"rules": [{"when": 'carrier == "DL"', "use": 2}]}, "rules chooses it for no row"),
        ("segment_best", {"by": ["carrier"]}, "no segment in which it is proved better"),
        ("weighted", {}, "others gain more for what they use, or there is no room for it"),
    ],
)
def test_a_version_without_traffic_is_told_why_in_the_policys_own_terms(split_world, kind, params, why):
    plan = planned(split_world, kind, params).plan
    (reason,) = [item.reason for item in plan.rejected if item.version == "3"]
    assert reason.startswith("it gets no traffic: log_loss ")
    assert reason.endswith(f"; {why}")


def test_a_cascade_keeps_quality_for_less_time(world):
    world.add("1", 0.6, aliases=("champion",), latency=latency(1000))
    world.add("2", 1.0, latency=latency(100))
    found = planned(world, "cascade", {"stages": [1, 2], "quality": 0.98}, default="2")
    plan = found.plan
    assert [arm.version for arm in plan.arms] == ["1", "2"]
    first, second = (arm.share for arm in plan.arms)
    assert first + second == pytest.approx(1)
    # Version 1 runs for every row, version 2 for what is left.
    assert plan.gain.relative_time == pytest.approx(0.1 + second, abs=0.05)
    assert plan.gain.relative_time < 0.9
    assert "Model time a row: 0." in found.verdict
    assert {item.reason.partition(":")[0] for item in found.segments} == {"stage 1 of 2", "stage 2 of 2"}


def test_a_cascade_that_would_cost_more_than_one_version_is_said_not_to_win(world):
    world.add("1", 0.6, latency=latency(110))
    world.add("2", 1.0, aliases=("champion",), latency=latency(100))
    found = planned(world, "cascade", {"stages": [1, 2], "quality": 0.999}, default="2")
    assert found.verdict.startswith("Routing isn't expected to win: nothing better than version 2 was found")
    assert found.plan.gain.relative_time == pytest.approx(1, abs=0.05)
    assert {item.shares["2"] for item in found.segments} == {1.0}


def test_a_cascades_cpu_is_what_its_stages_run_for(world):
    world.add("1", 0.6, latency=latency(1000))
    world.add("2", 1.0, latency=latency(100), aliases=("champion",))
    budget = {"budget": {"cpu": 4}, "load": "100/s"}
    plan = planned(world, "cascade", {"stages": [1, 2], "budget": 0.5}, resources=budget).plan
    assert plan.arm("1").resources.cpu == pytest.approx(0.1)
    assert plan.allocation.used["cpu"] == pytest.approx(0.1 + plan.arm("2").share, abs=0.01)


def test_a_cascade_refuses_a_request_as_a_whole(split_world):
    with pytest.raises(PolicyUnfit, match="per: request"):
        planned(split_world, "cascade", {"stages": [1, 2]}, per="request")


def test_an_ensemble_states_what_it_gains(split_world):
    found = planned(split_world, "ensemble", {"how": "stacked", "members": [1, 2]})
    assert [arm.version for arm in found.plan.arms] == ["1", "2"]
    assert found.plan.gain.low > 0
    assert found.plan.gain.relative_time == pytest.approx(2)
    with pytest.raises(PolicyUnfit, match="output: label"):
        planned(split_world, "ensemble", {"members": [1, 2]}, output="label")


def latency(rows_per_second):
    return (BatchLatency(batch_size=1, p50_ms=1, p95_ms=2, p99_ms=4, rows_per_second=rows_per_second),)


def test_learned_is_refused_without_a_gain_unless_forced(world):
    world.add("1", 1.0, aliases=("champion",))
    world.add("2", 0.9)
    params = {"features": ["carrier"], "trees": 5}
    with pytest.raises(GainMissing, match="expected an interval above zero") as refused:
        planned(world, "learned", params)
    assert refused.value.exit_code == 1
    assert planned(world, "learned", {**params, "force": True}).plan.default == "1"


def test_learned_with_a_gain(split_world):
    found = planned(split_world, "learned", {"features": ["carrier"], "trees": 10})
    assert found.plan.gain.low > 0
    assert [file.path for file in found.plan.policy.files] == ["learned.onnx"]
    assert list(found.files) == ["learned.onnx"]
    assert sorted(item.reason for item in found.segments) == [
        "default: nothing predicted better",
        "predicted best by log_loss",
    ]


def test_a_policy_that_learns_keeps_every_version_and_says_what_its_figures_are(split_world):
    found = planned(split_world, "thompson", {"prior": 100}, around={"shadow": [3]})
    assert {arm.version for arm in found.plan.arms} == {"1", "2", "3"}
    assert found.plan.policy.document["live"] == ["1", "2"]
    assert {arm.version: arm.share for arm in found.plan.arms}["3"] == 0
    assert any("before the first reward" in warning for warning in found.plan.warnings)
    again = planned(split_world, "thompson", {"prior": 100}, around={"shadow": [3]})
    assert found.plan.model_dump(exclude={"salt"}) == again.plan.model_dump(exclude={"salt"})


def test_a_bandit_by_context_starts_from_the_evidence(split_world):
    found = planned(split_world, "lints", {"features": ["carrier"], "prior": 1000})
    assert [item.path for item in found.plan.policy.files] == ["start.f64"]
    assert found.plan.gain.value > 0
    assert found.plan.signature.inputs[-1].name == "carrier"


def test_vectors_of_their_own_are_shown_by_their_mean():
    parts = np.linspace(0, 1, 101)
    cells = np.arange(101)
    choice = Choice(
        np.zeros(101, dtype=np.intp), cells, np.stack([parts, 1 - parts], axis=1), ["r"] * 101, [None] * 101
    )
    (shown,) = segment_shares(choice, np.ones(101), ["1", "2"])
    assert shown.shares == pytest.approx({"1": 0.5, "2": 0.5})
    assert (shown.rows, shown.reason) == (101, "r")
