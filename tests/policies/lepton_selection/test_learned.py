"""`learned`: finds who is better where, states what it gains, and is refused without a gain."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from lepton_plugins.canonical import canonical_json
from lepton_plugins.errors import ColumnMissing, PolicyUnfit
from lepton_plugins.planning.gain import answered, compiled, cross_fitted_gain
from lepton_plugins.testing.evidence import column_from
from lepton_plugins.testing.policy import PolicyContract
from lepton_selection.encoding import Encoder, declare
from lepton_selection.learned import FILE, Learned, LearnedParams
from lepton_selection.target_price import price_for

PARAMS = LearnedParams(features=("segment", "x"))


class TestContract(PolicyContract):
    policy = Learned
    params = {"features": ["carrier", "hour"], "trees": 10}
    columns = {"carrier": ["AA", "UA", None], "hour": [1, 12, 20.5]}


@pytest.fixture
def evidence(paired_of):
    """Version 2 is better where x > 0.5 in segment 1, and dearer."""

    def make(gain=0.5, rows=4000, seed=0):
        rng = np.random.default_rng(seed + 1000)
        x = rng.random(rows)
        made = paired_of([[0.0, 0.0], [0.0, 0.0]], rows=rows, seed=seed, extra={"x": x})
        there = (x > 0.5) & (made.columns["segment"] == "s001")
        values = made.values.copy()
        values[:, 1] += np.where(there, -gain, 0.1 * (gain > 0))
        return replace(made, values=values, utility=1 - values / 1.2, costs=np.array([1.0, 3.0])), there

    return make


def fitted(paired, params=PARAMS):
    made = Learned.compile(params, paired, None, None, paired.versions, None)
    return compiled("learned", Learned, params, made, paired.versions, "1"), made


def gain_of(paired, params=PARAMS):
    ones = np.ones(paired.rows)
    policy, _ = fitted(paired, params)
    whole = answered(policy, paired).better
    return cross_fitted_gain("learned", Learned, params, paired, lambda proposal: None, ones, whole)


def test_it_finds_who_is_better_where(evidence):
    policy, _ = fitted(evidence()[0])
    fresh, there = evidence(seed=7)
    found = answered(policy, fresh)
    assert ((found.choice.arms == 1) == there).mean() > 0.97
    assert found.better.mean() > 0.8 * 0.5 * there.mean()
    inside, outside = (policy.explain({"segment": segment, "x": 0.9}) for segment in ("s001", "s000"))
    assert inside[1].propensity == 1
    assert inside[1].score == pytest.approx(0.5, abs=0.15)
    assert inside[0].reason == "another is predicted better"
    assert outside[0].reason == "default: nothing predicted better"


def test_the_gain_is_held_out(evidence):
    paired, there = evidence(rows=2000)
    gain = gain_of(paired)
    assert 0 < gain.low < 0.5 * there.mean()
    assert gain.relative_time == pytest.approx(1 + 2 * there.mean(), abs=0.1)
    nothing = gain_of(evidence(gain=0.0, rows=2000)[0])
    assert nothing.low < 0


def test_a_price_is_weighed_against_the_gain(evidence):
    paired, there = evidence()
    # Twice the default's time more, at 0.4 for the default's time: more than there is to win.
    policy, _ = fitted(paired, PARAMS.model_copy(update={"price": 0.4}))
    assert (answered(policy, paired).choice.arms == 0).mean() > 0.99
    policy, _ = fitted(paired, PARAMS.model_copy(update={"price": 0.1}))
    assert (answered(policy, paired).choice.arms[there] == 1).mean() > 0.9
    assert "less a price of 0.2" in policy.explain({"segment": "s001", "x": 0.9})[1].reason
    with pytest.raises(PolicyUnfit, match="price"):
        fitted(replace(paired, costs=None), PARAMS.model_copy(update={"price": 0.1}))


@pytest.mark.parametrize("wanted", [{"quality": 1.03, "budget": None}, {"quality": None, "budget": 0.6}])
def test_more_rows_of_the_same_units_prove_nothing_more(evidence, wanted):
    """Ten visits of each of 600 customers, all alike, are evidence of 600 customers."""
    once = evidence(rows=600)[0]
    visits = np.repeat(np.arange(once.rows), 10)
    customers = replace(once.take(visits), groups=visits)
    predicted = once.improvement(np.tile([0.0, 1.0], (once.rows, 1)))[:, None]
    predicted += np.random.default_rng(0).normal(0, 1, predicted.shape)

    def price(paired, rows):
        return price_for(paired, [1], predicted[rows], sure=0.95, **wanted)

    alone = price(once, np.arange(once.rows))
    assert price(customers, visits) == pytest.approx(alone)
    assert price(replace(customers, groups=None), visits) != pytest.approx(alone)


def test_a_quality_and_a_budget_are_kept_on_other_rows(evidence):
    """Version 2 takes thrice the time, and is better in a part of the rows, worse in the others."""
    paired, fresh = evidence(rows=3000)[0], evidence(rows=20_000, seed=9)[0]
    best = fresh.utility.mean(axis=0).max()
    spent, useful = {}, {}
    for quality in (0.99, 1.05):
        policy, _ = fitted(paired, LearnedParams(features=("segment", "x"), quality=quality))
        found = answered(policy, fresh)
        spent[quality] = found.work.mean(axis=0) @ fresh.costs
        useful[quality] = (fresh.utility[:, 0] + fresh.unit * found.better).mean()
        assert useful[quality] >= quality * best
    assert 1 <= spent[0.99] < spent[1.05] < 2
    for budget in (0.4, 0.45):
        policy, _ = fitted(paired, LearnedParams(features=("segment", "x"), budget=budget))
        assert answered(policy, fresh).work.mean(axis=0) @ fresh.costs <= budget * 3 * 1.01
    dear, _ = fitted(paired, LearnedParams(features=("segment", "x"), quality=0.99, cost={"1": 9, "2": 1}))
    assert (answered(dear, fresh).choice.arms == 1).mean() > 0.5
    with pytest.raises(PolicyUnfit, match=r"no version within budget 0\.1"):
        fitted(paired, LearnedParams(features=("segment", "x"), budget=0.1))
    with pytest.raises(PolicyUnfit, match="a quality or a budget"):
        fitted(replace(paired, costs=None), LearnedParams(features=("segment", "x"), quality=0.9))
    with pytest.raises(ValidationError, match="they set the price"):
        LearnedParams(features=("x",), quality=0.9, price=0.1)


def test_the_seed_settles_it(evidence):
    paired, _ = evidence(rows=1000)
    (_, one), (_, two) = fitted(paired), fitted(paired)
    assert one.files == two.files
    assert canonical_json(one.document) == canonical_json(two.document)
    _, other = fitted(replace(paired, seed=1))
    assert other.files[FILE] != one.files[FILE]


def test_columns_are_encoded_as_declared():
    columns = {
        "text": column_from([*["a"] * 30, *["b"] * 25, "rare", None]),
        "number": np.r_[np.arange(56.0), np.nan],
        "mixed": column_from([None, *range(56)]),
    }
    declared = declare(list(columns), columns)
    assert [column["kind"] for column in declared] == ["text", "number", "number"]
    assert declared[0]["levels"] == ["a", "b"]
    matrix = Encoder(declared).encode(columns, 57)
    assert matrix.shape == (57, 2 + 1 + 2 + 2)
    assert matrix[0, :3].tolist() == [1, 0, 0]
    assert matrix[55, :3].tolist() == [0, 0, 0]
    assert matrix[56].tolist() == [0, 0, 1, 27.5, 1, 55, 0]
    nothing = Encoder(declared).encode({"number": column_from(["text", float("inf"), 10**400])}, 3)
    assert nothing[:, 3:5].tolist() == [[27.5, 1]] * 3


def test_a_feature_that_the_data_lacks(evidence):
    with pytest.raises(ColumnMissing, match="'y'"):
        fitted(evidence(rows=500)[0], LearnedParams(features=("y",)))


def test_serving_it_needs_no_scikit_learn(evidence, tmp_path):
    _, made = fitted(evidence(rows=500)[0])
    (tmp_path / FILE).write_bytes(made.files[FILE])
    (tmp_path / "policy.json").write_bytes(canonical_json(made.document))
    code = f"""
import json, sys
from pathlib import Path
from lepton_plugins.records.plan import PolicyDocument
from lepton_selection.learned import FILE, Learned
at = Path({str(tmp_path)!r})
document = PolicyDocument(kind="learned", params={{"features": ["segment", "x"]}}, features=("segment", "x"),
                          document=json.loads((at / "policy.json").read_text()))
policy = Learned(document, {{FILE: (at / FILE).read_bytes()}}, ["1", "2"], 0)
print(policy.choose_one({{"segment": "s001", "x": 0.9}}, 0).arm)
heavy = {{"sklearn", "skl2onnx", "onnx", "scipy", "pandas"}} & set(sys.modules)
print(sorted(heavy))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[:2] == ["1", "[]"]
