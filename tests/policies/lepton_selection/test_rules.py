"""`rules`: the first condition that holds decides; what is missing never matches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lepton_plugins.errors import ArmMissing
from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.testing.policy import PolicyContract
from lepton_selection.rules import Rules, RulesParams

CARRIER = {"when": 'carrier == "UA" && distance > 500', "use": 2, "name": "long United"}
TENANT = {"when": 'header["x-tenant"] == "gold"', "use": {1: 0.5, 3: 0.5}}


def policy_of(*rules, otherwise=None, arms=("1", "2", "3")):
    params = RulesParams.model_validate({"rules": list(rules), "otherwise": otherwise})
    made = Rules.compile(params, PairedPredictions.without_rows(arms, arms[0]), None, None, arms, None)
    document = PolicyDocument(
        kind="rules", params=params.model_dump(mode="json"), features=made.features, document=made.document
    )
    return Rules(document, {}, arms, 0), made


class TestContract(PolicyContract):
    policy = Rules
    params = {"rules": [CARRIER, TENANT, {"when": 'column["dep time"] < 5.5', "use": 3}], "otherwise": {"1": 3, "2": 1}}
    columns = {
        "carrier": ["UA", "AA", None],
        "distance": [100, 700, 900.5],
        "header:x-tenant": ["gold", "x"],
        "dep time": [1.0, 9.0],
    }


def test_the_first_rule_that_holds_decides():
    policy, made = policy_of(CARRIER, TENANT, {"when": "distance > 100", "use": 3})
    one = policy.choose_one({"carrier": "UA", "distance": 600, "header:x-tenant": "gold"}, 0)
    assert (one.arm, one.vector) == (1, (0, 1, 0))
    assert one.reason == 'long United: carrier == "UA" && distance > 500'
    assert policy.choose_one({"carrier": "AA", "distance": 600, "header:x-tenant": "gold"}, 0).vector == (0.5, 0, 0.5)
    assert policy.choose_one({"carrier": "AA", "distance": 600, "header:x-tenant": "tin"}, 0).arm == 2
    last = policy.choose_one({"carrier": "AA", "distance": 6, "header:x-tenant": "tin"}, 0)
    assert (last.arm, last.reason) == (0, "no rule holds")
    assert made.runs == ("1", "2", "3")


@pytest.mark.parametrize("missing", [None, float("nan"), "far", ["a", "list"]])
def test_what_is_missing_or_of_another_kind_does_not_match_and_is_counted(missing):
    policy, _ = policy_of(CARRIER, {"when": 'distance > 1000 || carrier == "UA"', "use": 3})
    one = policy.choose_one({"carrier": "UA", "distance": missing}, 0)
    # In the second rule the carrier alone settles it.
    assert one.arm == 2
    assert "(long United lacks a value)" in one.reason
    assert policy.missing == {"long United": 1, "rule 2": 0}
    assert policy.choose_one({}, 0).reason == "no rule holds (long United lacks a value)"


def test_one_is_not_true():
    policy, _ = policy_of({"when": "flag", "use": 2})
    assert [policy.choose_one({"flag": value}, 0).arm for value in (True, 1, 1.0, False)] == [1, 0, 0, 0]


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()))
def test_any_value_is_answered(value):
    policy, _ = policy_of({"when": 'x > 5 || x == "a"', "use": 2})
    arm = policy.choose_one({"x": value}, 2**63).arm
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    assert arm == int((is_number and value > 5) or value == "a")


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("carrier ==", "isn't CEL"),
        ('carrier == "' + "x" * 1000 + '"', "characters"),
        ("(" * 20 + "true" + ")" * 20, "nested 20 deep"),
        ("[1].exists(i, [2].exists(j, i == j))", "at most one"),
        ("header[carrier] == 'x'", 'header["name"]'),
        ('header["X-Tenant"] == "x"', "lower case"),
    ],
)
def test_conditions_that_cannot_be(when, said):
    with pytest.raises(ValidationError, match=re.escape(said)):
        RulesParams.model_validate({"rules": [{"when": when, "use": 1}]})


def test_brackets_in_quotes_and_bound_names_do_not_count():
    policy, made = policy_of({"when": f'name == "{"(" * 40}" && [1, 2].exists(i, i == size)', "use": 2})
    assert made.features == ("name", "size")
    assert policy.choose_one({"name": "(" * 40, "size": 2}, 0).arm == 1


def test_a_version_that_is_no_arm():
    with pytest.raises(ArmMissing, match=r"policy\.params\.rules\.0\.use names version 9"):
        policy_of({"when": "true", "use": 9})
    with pytest.raises(ArmMissing, match=r"policy\.params\.otherwise"):
        policy_of(CARRIER, otherwise=9)
