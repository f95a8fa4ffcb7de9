"""Plans of the policies that come with Lepton: what they refuse, keep running and promise."""

from __future__ import annotations

import pytest

from lepton_plugins.errors import RuleInvalid
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec


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
