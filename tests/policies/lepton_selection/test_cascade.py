"""`cascade`: only uncertain rows go on, and the thresholds are the best there are."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_plugins.errors import ArmMissing, PolicyUnfit
from lepton_plugins.planning.gain import answered, compiled
from lepton_plugins.testing.evidence import paired_predictions
from lepton_plugins.testing.policy import PolicyContract
from lepton_selection.cascade import Cascade, CascadeParams
from lepton_selection.confidence import calibrate
from lepton_selection.thresholds import thresholds

COLUMNS = {"carrier": ["AA", "UA", "WN"]}


class TestContract(PolicyContract):
    policy = Cascade
    params = {"stages": [1, 2, 3]}
    columns = COLUMNS


def evidence(rows=4000, seed=0, knowledge=(1.0, 4.0), costs=(1.0, 10.0)):
    """A cheap version that knows a little and a dear one that knows much, of rows that differ in difficulty."""
    rng = np.random.default_rng(seed)
    target = rng.integers(2, size=rows)
    ease = rng.exponential(1.0, rows)
    outputs = []
    for know in knowledge:
        logits = 2 * (know * ease * (2 * target - 1) + rng.normal(0, 1.0, rows))  # Too sure of itself.
        yes = 1 / (1 + np.exp(-logits))
        outputs.append(np.stack([1 - yes, yes], axis=1))
    made = paired_predictions(COLUMNS, [str(i + 1) for i in range(len(knowledge))], rows, seed)
    values = np.stack([(output.argmax(axis=1) == target).astype(float) for output in outputs], axis=1)
    return replace(
        made,
        metric="accuracy",
        greater_is_better=True,
        baseline=None,
        values=values,
        utility=values,
        target=target,
        outputs=outputs,
        costs=np.array(costs),
    )


def fitted(paired, **params):
    checked = CascadeParams.model_validate(params)
    made = Cascade.compile(checked, paired, None, None, paired.versions, None)
    return compiled("cascade", Cascade, checked, made, paired.versions, paired.versions[0]), made


def test_confidence_is_calibrated():
    paired = evidence(20_000)
    right = paired.outputs[0].argmax(axis=1) == paired.target
    sure = calibrate(paired.outputs[0], right).confidence(paired.outputs[0])
    raw = paired.outputs[0].max(axis=1)
    assert abs(sure.mean() - right.mean()) < 0.002
    bins = np.digitize(sure, np.quantile(sure, np.linspace(0, 1, 11)[1:-1]))
    gaps = [abs(sure[bins == b].mean() - right[bins == b].mean()) for b in range(10)]
    raw_gaps = [abs(raw[bins == b].mean() - right[bins == b].mean()) for b in range(10)]
    assert np.mean(gaps) < 0.03 < np.mean(raw_gaps)


@given(st.integers(0, 10_000), st.integers(2, 3))
@settings(max_examples=20)
def test_thresholds_are_those_of_trying_each(seed, stages):
    rng = np.random.default_rng(seed)
    rows, costs = 60, [1.0, 3.0, 9.0][:stages]
    confidence = [np.round(rng.random(rows), 2) for _ in range(stages - 1)]
    utility = rng.random((rows, stages))
    found = thresholds(confidence, utility, costs)
    for place in list(product(*(range(len(choice)) for choice in found.choices)))[:: 1 if stages == 2 else 97]:
        left, total, spent = np.ones(rows, dtype=bool), 0.0, 0.0
        for stage in range(stages):
            spent += costs[stage] * left.sum()
            stays = left.copy()
            if stage < stages - 1:
                stays &= confidence[stage] >= found.choices[stage][place[stage]]
            total += utility[stays, stage].sum()
            left &= ~stays
        assert found.utility[place] == pytest.approx(total / rows)
        assert found.cost[place] == pytest.approx(spent / rows)


def test_the_cheapest_of_a_quality_and_the_best_of_a_budget():
    paired = evidence()
    alone = paired.utility.mean(axis=0)
    for wanted, most in ((0.97, 0.6), (0.99, 0.8)):
        policy, _ = fitted(paired, quality=wanted, sure=0.5)
        found = answered(policy, paired)
        quality = (found.better + paired.values[:, 0]).mean()
        assert quality >= wanted * alone.max()
        cost = (found.work.mean(axis=0) * paired.costs).sum()
        assert cost < most * paired.costs[1]
    policy, _ = fitted(paired, budget=0.4)
    found = answered(policy, paired)
    assert (found.work.mean(axis=0) * paired.costs).sum() <= 0.4 * paired.costs[1] * (1 + 1e-9)
    assert (found.better + paired.values[:, 0]).mean() > alone[0] + 0.5 * (alone[1] - alone[0])


@pytest.mark.parametrize("wanted", [{"quality": 0.97}, {"budget": 0.65}, {"quality": 0.97, "budget": 0.9}])
def test_more_rows_of_the_same_units_prove_nothing_more(wanted):
    """Ten visits of each of 1,000 customers, all alike, are evidence of 1,000 customers."""
    once = evidence(1000)
    visits = np.repeat(np.arange(once.rows), 10)
    customers = replace(once.take(visits), groups=visits)
    strangers = replace(customers, groups=None)

    def cost(paired):
        return float((answered(fitted(paired, **wanted)[0], once).work.mean(axis=0) * once.costs).sum())

    assert cost(customers) == pytest.approx(cost(once), rel=0.01)
    bolder = cost(strangers) / cost(once)
    assert bolder > 1.02 if "quality" not in wanted else bolder < 0.98


def test_held_out_rows_keep_the_quality():
    policy, _ = fitted(evidence(8000, seed=1), quality=0.98)
    fresh = evidence(20_000, seed=2)
    found = answered(policy, fresh)
    assert (found.better + fresh.values[:, 0]).mean() >= 0.97 * fresh.utility.mean(axis=0).max()


def test_who_wants_to_be_sure_that_a_quality_is_kept_pays_for_it():
    """Of thousands of thresholds the luckiest fall short on other rows in half of the tries or more."""
    stages = {"knowledge": (1.0, 2.0, 4.0), "costs": (1.0, 3.0, 10.0)}
    short, costs = {0.5: 0, 0.95: 0}, {0.5: 0.0, 0.95: 0.0}
    for seed in range(16):
        paired, fresh = evidence(1500, seed, **stages), evidence(20_000, 1000 + seed, **stages)
        for sure in short:
            policy, _ = fitted(paired, quality=0.97, sure=sure)
            found = answered(policy, fresh)
            quality = (found.better + fresh.values[:, 0]).mean()
            short[sure] += quality < 0.97 * fresh.utility.mean(axis=0).max()
            costs[sure] += float((found.work.mean(axis=0) * paired.costs).sum())
    assert short[0.95] <= 2 < short[0.5]
    assert costs[0.5] < costs[0.95]


def by_log_loss(paired):
    loss = -np.log(np.stack([output[np.arange(paired.rows), paired.target] for output in paired.outputs], axis=1))
    return replace(
        paired,
        metric="log_loss",
        greater_is_better=False,
        baseline=float(np.log(2)),
        values=loss,
        utility=1 - loss / (2 * np.log(2)),
    )


def test_blended_answers_are_better_for_the_same_cost():
    knowledge = {"knowledge": (2.0, 2.2)}
    paired, fresh = by_log_loss(evidence(4000, 3, **knowledge)), by_log_loss(evidence(20_000, 4, **knowledge))
    gained = {}
    for blend in (False, True):
        policy, _ = fitted(paired, stages=[1, 2], budget=0.5, blend=blend)
        found = answered(policy, fresh)
        assert (found.work.mean(axis=0) * fresh.costs).sum() <= 0.5 * fresh.costs[1] * 1.02
        gained[blend] = found.better.mean()
    assert gained[True] > gained[False] + 0.02


def test_the_worse_of_two_versions_weighs_in_where_their_errors_differ():
    """Alone the dear one is worse: it would be no stage."""
    paired = by_log_loss(evidence(4000, knowledge=(3.0, 2.0)))
    assert fitted(paired)[1].runs == ("1",)
    policy, made = fitted(paired, blend=True)
    assert made.runs == ("1", "2")
    weight = made.document["stages"][1]["weight"]
    assert 0 < weight < 0.6
    assert answered(policy, paired).better.mean() > 0.02
    last = policy.consult(1, lambda arm, rows: np.array([[0.5, 0.5]]))
    assert last.reasons[last.cells[0]].endswith(f"whose answer weighs {1 - weight:.2g}")


@pytest.mark.parametrize("params", [{"quality": 0.95}, {"budget": 0.3}, {"quality": 0.95, "blend": True}])
def test_made_again_without_versions_that_it_does_not_need_it_is_the_same(params):
    paired = by_log_loss(evidence(4000, knowledge=(1.0, 3.0, 3.1), costs=(1.0, 4.0, 40.0)))
    _, first = fitted(paired, **params)
    assert first.runs != tuple(paired.versions)
    checked = CascadeParams.model_validate(params)
    again = Cascade.compile(checked, paired, None, None, first.runs, None)
    assert again.document == first.document


def test_blended_answers_are_the_mixture_of_those_asked_and_any_that_fails_is_left_out():
    paired = by_log_loss(evidence(300))
    policy, made = fitted(paired, quality=1.0, sure=0.5, blend=True)
    weight, (first, second) = made.document["stages"][1]["weight"], paired.outputs
    asked = policy.consult(300, lambda arm, rows: paired.outputs[arm] if rows is None else paired.outputs[arm][rows])
    on = asked.arms == 1
    assert 0 < on.sum() < 300
    np.testing.assert_array_equal(asked.values[~on], first[~on])
    np.testing.assert_allclose(asked.values[on], (weight * second + (1 - weight) * first)[on])
    for broken, alone in ((0, second), (1, first)):
        given = policy.consult(
            300,
            lambda arm, rows, broken=broken: (
                None if arm == broken else paired.outputs[arm][slice(None) if rows is None else rows]
            ),
        )
        np.testing.assert_array_equal(given.values, alone)
        assert (given.served == 1 - broken).all()


def test_three_stages_drop_one_that_only_costs():
    policy, made = fitted(evidence(knowledge=(1.0, 0.0, 4.0), costs=(1.0, 9.0, 10.0)), stages=[1, 2, 3], quality=0.98)
    assert [stage["version"] for stage in made.document["stages"]] == ["1", "3"]
    assert made.runs == ("1", "3")
    assert policy.explain({})[1].reason == "no stage"


@pytest.mark.parametrize("params", [{"stages": [1, 2]}, {}])
def test_where_no_cascade_costs_less_the_dear_version_answers_alone(params):
    paired = evidence(knowledge=(0.02, 4.0), costs=(3.0, 10.0))
    policy, made = fitted(paired, quality=0.99, **params)
    assert made.document["stages"] == [{"version": "2", "share": 1}]
    assert policy.explain({})[0].reason == "no stage"
    work = answered(policy, paired).work.mean(axis=0)
    assert work == pytest.approx([0, 1])


@given(st.integers(0, 500), st.floats(0.8, 1.0), st.floats(0.0, 2.0), st.floats(0.5, 9.0))
@settings(max_examples=15)
def test_a_quality_never_costs_more_than_one_version_that_has_it(seed, quality, knowledge, cost):
    paired = evidence(400, seed, knowledge=(knowledge, 4.0), costs=(cost, 10.0))
    policy, _ = fitted(paired, quality=quality, stages=[1, 2])
    found = answered(policy, paired)
    alone = paired.utility.mean(axis=0)
    able = paired.costs[alone >= quality * alone.max()]
    assert (found.work.mean(axis=0) * paired.costs).sum() <= able.min() * (1 + 1e-9)
    assert (found.better + paired.values[:, 0]).mean() >= quality * alone.max() - 1e-9


def test_a_batch_answers_as_its_rows_and_only_uncertain_rows_go_on():
    paired = evidence(300)
    policy, _ = fitted(paired, quality=0.98)
    asked = []

    def run(arm, rows):
        asked.append((arm, 300 if rows is None else len(rows)))
        return paired.outputs[arm] if rows is None else paired.outputs[arm][rows]

    made = policy.consult(300, run)
    assert asked[0] == (0, 300)
    assert asked[1] == (1, int((made.arms == 1).sum()))
    for row in range(0, 300, 7):
        one = policy.consult(1, lambda arm, rows, row=row: paired.outputs[arm][row : row + 1])
        assert one.arms[0] == made.arms[row]
        np.testing.assert_array_equal(one.values[0], made.values[row])
        assert one.reasons[one.cells[0]] == made.reasons[made.cells[row]]


@pytest.mark.parametrize(
    ("params", "error", "said"),
    [
        ({"stages": [1, 9]}, ArmMissing, "version 9"),
        ({"cost": {"1": 1}}, PolicyUnfit, "without version 2"),
        ({"quality": 1.5, "budget": 0.3}, PolicyUnfit, "the best within this budget has quality 0."),
        ({"budget": 0.01}, PolicyUnfit, "the first stage alone costs more"),
    ],
)
def test_what_cannot_be_is_told(params, error, said):
    with pytest.raises(error) as told:
        fitted(evidence(), **params)
    assert said in str(told.value)


def test_without_probabilities_or_costs():
    with pytest.raises(PolicyUnfit, match="without probabilities"):
        fitted(replace(evidence(), outputs=[np.zeros(4000)] * 2))
    with pytest.raises(PolicyUnfit, match="no cost of version 1, 2"):
        fitted(replace(evidence(), costs=None))
