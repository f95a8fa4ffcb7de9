"""What models return, brought to the kinds of output."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_plugins.errors import OutputUnavailable
from lepton_plugins.routing import outputs


def test_probabilities_sum_to_one_or_are_refused():
    good = np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)
    assert outputs.as_proba(good, 2).dtype == np.float64
    for bad in ([[0.5, 0.7]], [[1.5, -0.5]], [[0.5, 0.5], [3.0, 1.0]]):
        with pytest.raises(OutputUnavailable, match="aren't probabilities"):
            outputs.as_proba(np.array(bad), len(bad))


def test_one_probability_a_row_is_the_second_classs():
    for shape in ((3,), (3, 1)):
        proba = outputs.as_proba(np.array([0.0, 0.25, 1.0]).reshape(shape), 3)
        np.testing.assert_allclose(proba, [[1, 0], [0.75, 0.25], [0, 1]])
    with pytest.raises(OutputUnavailable, match="0 to 1"):
        outputs.as_proba(np.array([12.5]), 1)


@pytest.mark.parametrize("rows", [1, 3])
def test_nan_passes_through_for_the_caller_to_see(rows):
    values = np.full((rows, 2), np.nan)
    assert np.isnan(outputs.as_proba(values, rows)).all()
    assert np.isnan(outputs.as_value(values[:, 0], rows)).all()


def test_logits_become_probabilities():
    np.testing.assert_allclose(outputs.proba_of_logits(np.array([[0.0, np.log(3)]]), 1), [[0.25, 0.75]])
    np.testing.assert_allclose(outputs.proba_of_logits(np.array([[np.log(3)]]), 1), [[0.25, 0.75]])
    np.testing.assert_allclose(outputs.proba_of_logits(np.array([[1000.0, 0.0]]), 1), [[1, 0]])


def test_labels_scores_and_values_have_one_shape():
    assert outputs.as_label(np.array([["a"], ["b"]]), 2).tolist() == ["a", "b"]
    assert outputs.label_of_scores(np.array([[0.1, 0.9]]), np.array(["no", "yes"])).tolist() == ["yes"]
    assert outputs.label_of_scores(np.array([[0.1, 0.9]]), None).tolist() == [1]
    assert outputs.as_score(np.array([[1.0, 3.0]]), 1).tolist() == [2.0]
    assert outputs.as_value(np.zeros((2, 1)), 2).shape == (2,)
    assert outputs.as_value(np.zeros((2, 3)), 2).shape == (2, 3)
    with pytest.raises(OutputUnavailable, match="3 classes"):
        outputs.score_of_proba(np.full((1, 3), 1 / 3))
    with pytest.raises(OutputUnavailable, match="one for each class"):
        outputs.as_score(np.zeros((2, 3)), 2)
    with pytest.raises(OutputUnavailable, match="aren't numbers"):
        outputs.as_value(np.array(["a"]), 1)
    with pytest.raises(OutputUnavailable, match="for 2 rows"):
        outputs.as_value(np.zeros(3), 2)


def test_class_names_are_text():
    assert outputs.class_names(np.array([0.0, 1.0])) == ("0", "1")
    assert outputs.class_names([b"a", "b", True, 1.5]) == ("a", "b", "True", "1.5")
