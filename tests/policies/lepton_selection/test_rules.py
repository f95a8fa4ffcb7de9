"""`rules`: the first condition that holds decides; what is missing never matches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lepton_plugins.errors import ArmMissing
from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.testing.policy import PolicyContract
from lepton_selection.condition import Condition, context_of
from lepton_selection.rules import Rules, RulesParams
from lepton_selection.simple_rules import NONE, OPEN, first_of_all, first_rule

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


NUMBER = ["0", "1", "-3", "1.0", "2.5", "-0.0", "1e3", "9007199254740992", "007", "0x10", "5.", "1u"]
SUM = st.recursive(
    st.sampled_from(["n", "n", "m", *NUMBER, "- 2.0", "1e300", "s", '"x"', "size(t)", 'column["n"]']),
    lambda inner: (
        st.builds("{}{}{}".format, inner, st.sampled_from([" + ", "-", "*", " / ", " % "]), inner)
        | st.builds("({})".format, inner)
    ),
    max_leaves=3,
)
RELATION = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
SIMPLE = st.recursive(
    st.one_of(
        st.builds("{} {} {}".format, SUM, RELATION, SUM),
        st.builds(
            "{} {} {}".format,
            st.sampled_from(["n", "m"]),
            RELATION,
            st.sampled_from(NUMBER),
        ),
        st.builds(
            "{} {} {}".format,
            st.sampled_from(["t", "s"]),
            st.sampled_from(["==", "!=", "<", ">="]),
            st.sampled_from(['"UA"', "'UA'", '""', '"é"', 'r"a"', '"a\\\\n"', "1"]),
        ),
        st.sampled_from(
            [
                't in ["UA", "AA"]',
                "n in [1, 2.5]",
                "n in []",
                "t in ['x',]",
                "true",
                "t.size() > 1",
                "size(s) <= 2",
                "2 == t.size()",
                "n.size() > 1",
                "1.5 < n",
                '"U" <= t',
                't.startsWith("U")',
                '!s.endsWith("A")',
                's.contains("") == true',
                't.contains("{0}")',
                "t.startsWith(s)",
                "b",
                "!b",
                "b == true",
                "b != false",
                "b < true",
                "!b == true",
                'header["x"] == "UA"',
                "header['x'].startsWith(\"U\") && column['t'] != 'AA'",
                'column["n"] > 1',
                "n + 1.0 > 2.0",
                'matches(t, "^U")',
                't > "A" ? b : n > 1',
                "has(header.x)",
                'n == "UA"',
                "n == null",
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.builds("({}) && {}".format, inner, inner),
        st.builds("{} || {}".format, inner, inner),
        st.builds("!({})".format, inner),
    ),
    max_leaves=4,
)
VALUES = st.fixed_dictionaries(
    {
        **dict.fromkeys(
            ["n", "m"],
            st.one_of(
                st.sampled_from(
                    [
                        0,
                        1,
                        -3,
                        2.5,
                        1.0,
                        -0.0,
                        1000,
                        2**53,
                        2**53 + 1,
                        2**70,
                        float("inf"),
                        float("nan"),
                        True,
                        None,
                        "1",
                    ]
                ),
                st.floats(),
                st.integers(),
            ),
        ),
        **dict.fromkeys(["t", "s"], st.sampled_from(["UA", "AA", "", "é", "\ud800", "{0}", 1, None, b"UA", True])),
        "b": st.sampled_from([True, False, None, 1, "true", {1}]),
        "header:x": st.sampled_from(["UA", "u", None, "é"]),
    }
)


NAMES = ["n", "m", "t", "s", "b", "header:x"]


@settings(max_examples=400)
@given(st.lists(SIMPLE, min_size=1, max_size=3), VALUES)
def test_the_short_way_decides_as_cel_does(whens, values):
    """Whatever is decided without CEL, CEL decides too, by the first condition that holds."""
    try:
        conditions = [Condition(when) for when in whens]
    except ValueError:
        assert first_rule(whens, NAMES) is None, "what isn't CEL isn't simple"
        return
    places = [place for condition in conditions for place in condition.places]
    row = tuple(values[name] for name in NAMES)
    said = [condition.holds(context_of(places, values)) for condition in conditions]
    expected = next((rule for rule, holds in enumerate(said) if holds), NONE)
    passed = said[: expected if expected >= 0 else None]
    lacking = passed.index(None) if None in passed else -1
    found = first_of_all(conditions, NAMES)(*row)
    assert found in ((OPEN, -1), (expected, lacking)), (whens, values)
    first = first_rule(whens, NAMES)
    if first is not None and first(*row) != OPEN:
        assert first(*row) == expected, (whens, values)
        assert lacking == -1, "nothing was lacking"


def test_simple_rules_take_the_short_way():
    names = ["carrier", "distance"]
    assert first_rule(['carrier == "UA" && distance > 500.0', 'carrier in ["AA"]'], names) is not None
    assert first_rule(["distance >= 5 || !(distance < -1.5e3)"], names)("x", 7.5) == 0
    assert first_rule(["2.0 * (distance + 1.0) / 4.0 > 5.0 && distance > 1"], names)("x", 9.5) == 0
    # A name that is text here and a number there, whole numbers with doubles, patterns: all that is CEL's.
    for when in (
        'carrier.matches("U")',
        "distance + 1.0 > distance * 2",
        "distance / 2 > 5",
        "distance * 1e300 > 5.0",
        "1.0 / distance > 5.0",
        "carrier < distance",
        'distance == "x"',
        "carrier == 1",
    ):
        assert first_rule([when, "distance > 1.0", 'carrier == "a"'], names) is None
    gold = first_rule(
        ['header["x"].startsWith("gold") && column["day of week"] in [6, 7]'], ["header:x", "day of week"]
    )
    assert (gold("golden", 6), gold("golden", 5), gold(None, 6)) == (0, NONE, OPEN)


def test_only_the_conditions_that_need_cel_ask_it():
    asked = []

    class Asked(Condition):
        def holds(self, context):
            asked.append(self.source)
            return super().holds(context)

    whens = ['header["x"] == "gold"', "[a].exists(i, i > 3.0)", 'b.startsWith("x")', "a > 0.0 ? true : false"]
    of_all = first_of_all([Asked(when) for when in whens], ["header:x", "a", "b"])
    assert of_all("gold", 4.0, "x") == (0, -1)
    assert asked == []
    assert of_all(None, 4.0, "x") == (1, 0), "the header lacks: the first rule is left undecided"
    assert of_all("tin", -1.0, None) == (NONE, 2)
    assert asked == [whens[1], whens[1], whens[3]]
    assert of_all("tin", -1.0, 7) == (OPEN, -1), "a number where text was expected is CEL's to decide"


def test_conditions_that_only_cel_can_are_asked_at_once():
    conditions = [Condition(f"a == {number}.0 ? true : false // and no more") for number in range(30)]
    of_all = first_of_all(conditions, ["a"])
    assert [of_all(float(number))[0] for number in (0, 15, 16, 29, 30)] == [0, 15, 16, 29, NONE]
    assert of_all(None) == (NONE, 0)
    deep = [Condition("a > 1.0 ? a > 2.0 : " * 40 + f"a == {number}.0") for number in range(6)]
    assert [first_of_all(deep, ["a"])(number) for number in (0.0, 1.5, 2.5)] == [(0, -1), (NONE, -1), (0, -1)]
    kinds = [Condition(when) for when in ('b ? true : b == "x"', "[a].exists(i, i > 1.0)")]
    undecided = first_of_all(kinds, ["a", "b"])
    assert undecided(2.0, True) == (0, -1)
    assert undecided(2.0, "x") == (1, 0), "text is neither true nor false: the first is left undecided"
    assert undecided(1.0, "x") == (NONE, 0)
