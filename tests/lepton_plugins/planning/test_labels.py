"""Versions named by label in a plan file: the same plan as by number, one error where a label names none."""

from __future__ import annotations

import pytest

from lepton_plugins.errors import SpecInvalid
from lepton_plugins.planning import lifecycle
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec


def planned(world, **spec):
    return make_plan(world.registry, parse_spec({"model": "flights", **spec}))


def findings(world, **spec):
    with pytest.raises(SpecInvalid) as caught:
        planned(world, **spec)
    assert caught.value.exit_code == 2
    return caught.value.findings


BY_CARRIER = {"kind": "segment_best", "params": {"by": ["carrier"]}}
UA = 'carrier == "UA"'


@pytest.mark.parametrize(
    ("by_label", "by_number"),
    [
        ({"versions": ["v1", 2]}, {"versions": [1, 2]}),
        ({"default": "v2", "policy": BY_CARRIER}, {"default": 2, "policy": BY_CARRIER}),
        (
            {"around": {"shadow": ["v3"], "fallback": "v2"}, "policy": BY_CARRIER},
            {"around": {"shadow": [3], "fallback": 2}, "policy": BY_CARRIER},
        ),
        (
            {"versions": ["v1", 2], "objective": {"weights": {1: 2, "v2": 1}}},
            {"versions": [1, 2], "objective": {"weights": {1: 2, 2: 1}}},
        ),
        ({"resources": {"conflicts": [["v1", "v2"]]}}, {"resources": {"conflicts": [[1, 2]]}}),
        (
            {"policy": {"kind": "weighted", "params": {"shares": {"v1": 0.7, 2: 0.3}}}},
            {"policy": {"kind": "weighted", "params": {"shares": {1: 0.7, 2: 0.3}}}},
        ),
        (
            {"policy": {"kind": "rules", "params": {"rules": [{"when": UA, "use": "v2"}], "otherwise": {"v1": 1}}}},
            {"policy": {"kind": "rules", "params": {"rules": [{"when": UA, "use": "2"}], "otherwise": {"1": 1.0}}}},
        ),
    ],
)
def test_a_label_makes_the_same_plan_as_the_number(split_world, by_label, by_number):
    lifecycle.save(split_world.registry, planned(split_world))  # From here on the salt is known.
    assert planned(split_world, **by_label).plan.digest == planned(split_world, **by_number).plan.digest


def test_a_number_stands_above_a_label_of_the_same_text(world):
    world.add("1", 0.9, label="2")
    world.add("2", 0.8, label="old")
    assert planned(world, versions=[1, 2], default=2).plan.default == "2"
    assert planned(world, default="old").plan.default == "2"


def test_every_name_that_is_no_version_is_told_at_once(split_world):
    rules = {"rules": [{"when": UA, "use": "v33"}]}
    found = findings(split_world, default="vv1", around={"shadow": ["{x}"]}, policy={"kind": "rules", "params": rules})
    assert found == (
        "default: found 'vv1', expected a version's number or label. Did you mean 'v1'?",
        "around.shadow[0]: found '{x}', expected a version's number or label. Known: 1, 2, 3, v1, v2, v3.",
        "policy.params.rules[0].use: found 'v33', expected a version's number or label. Did you mean 'v3'?",
    )


def test_a_label_of_several_versions(split_world):
    split_world.add("4", 0.9, label="v2")
    assert findings(split_world, default="v2") == (
        "default: found the label 'v2', which versions 2, 4 carry; expected a number, or a label that one version "
        "carries",
    )
    assert planned(split_world, default="v1").plan.default == "1"


def test_one_version_under_two_names(split_world):
    said = "found version 1 twice, also as 'v1'; expected it once"
    shares = {"kind": "weighted", "params": {"shares": {"v1": 0.5, 1: 0.5}}}
    assert findings(split_world, policy=shares) == (f"policy.params.shares: {said}",)
    assert findings(split_world, objective={"weights": {"v1": 1, 1: 1}}) == (f"objective.weights: {said}",)
    assert findings(split_world, versions=["v1", 1]) == ("versions: found ['1', '1'], expected each version once",)
    assert "version 1 as default and in around.shadow" in findings(split_world, default=1, around={"shadow": ["v1"]})[0]


def test_weights_for_all_are_checked_by_number(split_world):
    (found,) = findings(split_world, versions=["v1", "v2"], objective={"weights": {1: 1}})
    assert "found weights for ['1'] but none for ['2']" in found
