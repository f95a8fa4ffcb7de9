"""`ensemble`: what members say together, also when one of them fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from lepton_plugins.errors import ArmMissing, PolicyUnfit
from lepton_plugins.planning.gain import answered, compiled
from lepton_plugins.testing.evidence import paired_predictions
from lepton_plugins.testing.policy import PolicyContract
from lepton_selection.ensemble import Ensemble, EnsembleParams
from lepton_selection.stacking import stacked_weights

COLUMNS = {"carrier": ["AA", "UA", "WN"]}


class TestMean(PolicyContract):
    policy = Ensemble
    columns = COLUMNS


class TestStacked(PolicyContract):
    policy = Ensemble
    params = {"how": "stacked"}
    columns = COLUMNS


def fitted(paired, **params):
    checked = EnsembleParams.model_validate(params)
    made = Ensemble.compile(checked, paired, None, None, paired.versions, None)
    return compiled("ensemble", Ensemble, checked, made, paired.versions, paired.versions[0]), made


def numbers(columns, target):
    """Evidence of a regression whose versions say these columns."""
    outputs = [np.asarray(column, dtype=np.float64) for column in columns]
    target = np.asarray(target, dtype=np.float64)
    versions = [str(i + 1) for i in range(len(outputs))]
    values = np.stack([(output - target) ** 2 for output in outputs], axis=1)
    made = paired_predictions(COLUMNS, versions)
    return replace(
        made, task="regression", metric="mse", values=values, utility=-values, target=target, outputs=outputs
    )


def test_the_weighted_mean_is_measured_as_such():
    rng = np.random.default_rng(0)
    target = rng.normal(size=500)
    paired = numbers([target + rng.normal(size=500), target + rng.normal(size=500)], target)
    policy, made = fitted(paired, how="weighted", weights={1: 7, 2: 3})
    assert made.document["weights"] == [["1", 0.7], ["2", 0.3]]
    found = answered(policy, paired)
    combined = 0.7 * paired.outputs[0] + 0.3 * paired.outputs[1]
    np.testing.assert_allclose(found.better, paired.values[:, 0] - (combined - target) ** 2)
    assert found.choice.arms.tolist() == [0] * 500
    assert found.work.tolist() == [[1.0, 1.0]] * 500
    assert policy.choose_one({}, 0).reason == "0.7 × version 1 + 0.3 × version 2"


def test_stacked_weights_are_the_best_on_the_simplex():
    rng = np.random.default_rng(1)
    target = rng.normal(size=3000)
    noise = rng.normal(size=(3, 3000)) * np.array([[0.5], [1.0], [3.0]])
    paired = numbers(list(target + noise), target)
    weights = stacked_weights(paired, [0, 1, 2])
    # Independent errors: inversely as the variances.
    expected = np.array([4, 1, 1 / 9]) / np.array([4, 1, 1 / 9]).sum()
    np.testing.assert_allclose(weights, expected, atol=0.02)
    classes = paired_predictions(COLUMNS)
    best = stacked_weights(classes, [0, 1, 2])
    likelihood = np.stack([np.exp(-classes.values[:, i]) for i in range(3)], axis=1)
    loss = -np.log(likelihood @ best).mean()
    for other in np.random.default_rng(2).dirichlet(np.ones(3), 200):
        assert loss <= -np.log(likelihood @ other).mean() + 1e-9


def test_a_vote_of_labels_and_of_probabilities():
    classes = paired_predictions(COLUMNS, rows=4)
    policy, _ = fitted(classes, how="vote", weights={1: 2, 2: 1, 3: 1})
    labels = [
        np.array(said, dtype=object) for said in (["a", "a", "b", None], ["b", "b", "b", "b"], ["b", "c", "a", "a"])
    ]
    made = policy.consult(4, lambda arm, rows: labels[arm])
    # Two against two: the heaviest voter settles it.
    assert made.values.tolist() == ["a", "a", "b", "b"]
    assert made.failed.tolist() == [-1, -1, -1, 0]
    proba = [np.eye(2)[[0, 1, 1, 0]], np.eye(2)[[1, 1, 1, 1]], np.eye(2)[[1, 1, 0, 0]]]
    shares = policy.consult(4, lambda arm, rows: proba[arm])
    np.testing.assert_allclose(shares.values[:, 1], [0.5, 1, 0.75, 0.25])


def test_a_member_that_fails_is_left_out_and_told():
    paired = numbers([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]], [0, 0])
    policy, _ = fitted(replace(paired, outputs=[np.zeros(2)] * 3), how="weighted", weights={1: 5, 2: 3, 3: 2})
    made = policy.consult(2, lambda arm, rows: None if arm == 0 else paired.outputs[arm])
    np.testing.assert_allclose(made.values, [(3 * 3 + 2 * 5) / 5, 6])
    assert made.arms.tolist() == [0, 0]
    assert made.served.tolist() == [1, 2]
    assert made.failed.tolist() == [0, 0]
    assert made.reasons[made.cells[0]].endswith("without those that failed")
    assert policy.consult(2, lambda arm, rows: None) is None


def test_what_cannot_be():
    for params in ({"how": "weighted"}, {"weights": {1: 1}}, {"how": "vote", "weights": {1: 1}, "members": [1]}):
        with pytest.raises(ValidationError):
            EnsembleParams.model_validate(params)
    paired = paired_predictions(COLUMNS)
    with pytest.raises(ArmMissing, match=r"policy\.params\.members names version 9"):
        fitted(paired, members=[1, 9])
    with pytest.raises(PolicyUnfit, match="a ranking"):
        fitted(replace(paired, task="ranking"))
