"""`around.explore` in a plan: every version runs, shares and gain count it, and a certain plan says what it lacks."""

from __future__ import annotations

import pytest

from lepton_plugins.errors import ColumnMissing, ExploreMeaningless
from lepton_plugins.planning import lifecycle
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec

BEST = {"kind": "segment_best", "params": {"by": ["carrier"]}}


def planned(world, **spec):
    return make_plan(world.registry, parse_spec({"model": "flights", "policy": BEST, **spec}))


def lines(found) -> str:
    return " ".join(found._lines())


def test_every_version_runs_and_shares_count_what_is_explored(split_world):
    certain = planned(split_world)
    found = planned(split_world, around={"explore": 0.3})
    assert [arm.version for arm in found.plan.arms] == ["1", "2", "3"]
    before = {arm.version: arm.share for arm in certain.plan.arms} | {"3": 0.0}
    for arm in found.plan.arms:
        assert arm.share == pytest.approx(0.7 * before[arm.version] + 0.1)
    assert sum(arm.share for arm in found.plan.arms) == pytest.approx(1)


def test_the_expected_gain_is_less_by_what_exploring_costs(split_world):
    certain = planned(split_world).plan.gain
    mixed = planned(split_world, around={"explore": 0.5, "holdout": 0.2}).plan.gain
    held = planned(split_world, around={"holdout": 0.2}).plan.gain
    assert held.value == pytest.approx(0.8 * certain.value, rel=1e-6)
    assert mixed.value < held.value / 2, "half of it, and the versions drawn are worse than the default"


def test_a_certain_plan_says_that_it_tells_nothing_of_others(split_world):
    assert "explore: 0.05" in lines(planned(split_world))
    assert "explore: 0.05" not in lines(planned(split_world, around={"explore": 0.05}))


def test_a_pin_explores_nothing_and_hides_what_the_plan_hid(split_world):
    hiding = {"columns": ["carrier"], "redact": ["carrier"]}
    planned_ = planned(split_world, around={"explore": 0.3}, decisions=hiding)
    lifecycle.save(split_world.registry, planned_)
    lifecycle.promote(split_world.registry, "flights", force=True)
    lifecycle.pin(split_world.registry, "flights", "2")
    pinned = split_world.registry.get_plan(split_world.registry.plan_in_force("flights"))[0]
    assert pinned.around.explore == 0
    assert pinned.spec.decisions.redact == ("carrier",)


def test_combined_answers_cannot_be_explored(split_world):
    with pytest.raises(ExploreMeaningless, match="ensemble"):
        planned(split_world, policy={"kind": "ensemble", "params": {"how": "mean"}}, around={"explore": 0.1})


def test_further_columns_to_log_are_checked_and_part_of_the_signature(split_world):
    found = planned(split_world, decisions={"columns": ["carrier"]}, policy="weighted")
    assert "carrier" in found.plan.signature.input_names
    with pytest.raises(ColumnMissing, match="carrier"):
        planned(split_world, decisions={"columns": ["carier"]}, policy="weighted")
