"""The warning about versions whose scores differ in scale."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.planning.calibration import calibration_warning, pooled_warning, scale_warning
from lepton_plugins.records.report import Dataset


def paired_of(outputs, target, groups=None) -> PairedPredictions:
    """Two versions' probabilities for the same rows."""
    rows = len(target)
    return PairedPredictions(
        dataset=Dataset(name="d", digest="d", rows=rows),
        task="classification",
        metric="log_loss",
        greater_is_better=False,
        baseline=0.69,
        versions=["1", "2"],
        default=0,
        values=np.zeros((rows, 2)),
        utility=np.zeros((rows, 2)),
        target=target,
        outputs=outputs,
        columns={},
        groups=groups,
    )


def segments_of(shift: float, rows: int = 8000):
    """Version 1 ranks segment 0 better, version 2 segment 1; version 2's scores are lower by `shift` everywhere."""
    rng = np.random.default_rng(0)
    segment = rng.integers(0, 2, rows)
    odds = rng.normal(0, 1.2, rows) + np.where(segment == 0, -1.0, 1.0)
    target = np.where(rng.random(rows) < 1 / (1 + np.exp(-odds)), "yes", "no").astype(object)
    outputs = []
    for good, lower in ((0, 0.0), (1, shift)):
        noise = np.where(segment == good, 0.2, 1.5) * rng.normal(0, 1, rows)
        yes = 1 / (1 + np.exp(-(odds + noise - lower)))
        outputs.append(np.stack([1 - yes, yes], axis=1))
    return paired_of(outputs, target), segment


def test_the_pooled_auc_of_numbers_as_targets():
    paired, segment = segments_of(shift=3.0)
    paired.target = (paired.target == "yes").astype(np.int64)
    assert pooled_warning(paired, segment.astype(np.intp), segment.astype(np.intp), ("0", "1")) is not None


def test_the_pooled_auc_falls_although_both_segments_improve():
    paired, segment = segments_of(shift=3.0)
    warning = pooled_warning(paired, segment.astype(np.intp), segment.astype(np.intp), ("no", "yes"))
    assert warning is not None
    figures = [float(word.strip(",.;()")) for word in warning.split() if word.strip(",.;()").startswith("0.")]
    pooled, single_1, single_2, within, alone = figures[:5]
    assert pooled < min(single_1, single_2)
    assert within > alone
    assert "version 2 says 0." in warning


@pytest.mark.parametrize("classes", [("no", "yes"), ("no", "yes", "maybe")])
def test_versions_that_are_calibrated_alike_are_fine(classes):
    paired, segment = segments_of(shift=0.0)
    assert pooled_warning(paired, segment.astype(np.intp), segment.astype(np.intp), classes) is None


def test_one_version_alone_is_fine():
    paired, segment = segments_of(shift=3.0)
    assert pooled_warning(paired, np.zeros(len(segment), dtype=np.intp), segment.astype(np.intp), ("no", "yes")) is None


def two_versions(rows: int, seed: int, *, slope=1.0, shift=0.0, groups=None, rare=0.0, target=("no", "yes")):
    """Two versions as good as each other, calibrated but for the second's logit, which is stretched and shifted."""
    rng = np.random.default_rng(seed)
    known = rng.normal(-rare, 1, (2, rows if groups is None else groups))
    known, lost = known, rng.normal(0, 0.3, known.shape)
    if groups is not None:
        known, lost = (np.repeat(part, rows // groups, axis=1) for part in (known, lost))
    chance = 1 / (1 + np.exp(-(known[0] + known[1])))
    classes = np.array(target, dtype=object)
    outputs = []
    for own, a, b in ((0, 0.0, 1.0), (1, shift, slope)):
        # E[chance | own part], integrated over the other part: calibrated whatever the curve.
        nodes, parts = np.polynomial.hermite_e.hermegauss(15)
        seen = (1 / (1 + np.exp(-(known[own][:, None] - rare + nodes)))) @ (parts / parts.sum())
        odds = a + b * np.log(seen / (1 - seen))
        outputs.append(np.stack([1 / (1 + np.exp(odds)), 1 / (1 + np.exp(-odds))], axis=1))
    labels = classes[(rng.random(rows) < chance).astype(int)]
    return paired_of(outputs, labels, None if groups is None else np.repeat(np.arange(groups), rows // groups))


def halves(rows: int) -> np.ndarray:
    """Deterministic: every second row by each version."""
    return np.eye(2)[np.arange(rows) % 2]


@pytest.mark.parametrize("target", [("no", "yes"), (0, 1)])
def test_scores_of_another_scale_are_told_though_the_pooled_auc_does_not_fall(target):
    paired = two_versions(4000, 0, slope=2.5, target=target)
    shares, segments = halves(4000), (np.arange(4000) % 2).astype(np.intp)
    # Each knows nothing where the other answers, so that routing ranks better than either.
    for version in (0, 1):
        paired.outputs[version][shares[:, version] == 0] = 0.5
    classes = tuple(map(str, target))
    assert pooled_warning(paired, shares.argmax(axis=1), segments, classes) is None
    warning = calibration_warning(paired, shares.argmax(axis=1), shares, segments, classes)
    assert warning is not None
    assert "aren't calibrated alike" in warning
    slopes = [float(part.split(",")[0]) for part in warning.split("slope ")[1:]]
    assert slopes == pytest.approx([1.0, 0.4], abs=0.15)
    assert "threshold" in warning
    assert "p < 0.001" in warning


def test_both_alike_badly_calibrated_is_alike():
    paired = two_versions(4000, 0, slope=2.5, shift=1.2)
    odds = 1.2 + 2.5 * np.log(paired.outputs[0][:, 1] / paired.outputs[0][:, 0])
    paired.outputs = [np.stack([1 / (1 + np.exp(odds)), 1 / (1 + np.exp(-odds))], axis=1), paired.outputs[1]]
    assert scale_warning(paired, halves(4000), ("no", "yes")) is None


def test_a_version_that_never_answers_does_not_count():
    paired = two_versions(4000, 0, slope=2.5, shift=1.2)
    assert scale_warning(paired, np.tile([1.0, 0.0], (4000, 1)), ("no", "yes")) is None


def test_many_rows_do_not_make_a_trifle_a_warning():
    paired = two_versions(400_000, 0, shift=0.05)
    assert scale_warning(paired, halves(400_000), ("no", "yes")) is None


def test_predicted_classes_of_three():
    paired = two_versions(6000, 0, slope=3.0)
    paired.outputs = [np.column_stack([0.8 * output, np.full(6000, 0.2)]) for output in paired.outputs]
    paired.target = np.where(np.random.default_rng(5).random(6000) < 0.2, "maybe", paired.target).astype(object)
    warning = scale_warning(paired, halves(6000), ("no", "yes", "maybe"))
    assert warning is not None
    assert "predicted class's probability" in warning


@pytest.mark.parametrize(
    ("rows", "shares", "settings"),
    [
        (600, "halves", {}),
        (600, "tenth", {}),
        (1000, "halves", {"groups": 100}),
        (3000, "halves", {"rare": 1.5}),
    ],
)
def test_versions_calibrated_alike_are_seldom_suspected(rows, shares, settings):
    """Wald's test is one of 5 %: of 400 tries at most 9 % (four standard errors above) warn, and some do."""
    given = halves(rows) if shares == "halves" else np.tile([0.9, 0.1], (rows, 1))
    alarms = sum(
        scale_warning(two_versions(rows, seed, **settings), given, ("no", "yes")) is not None for seed in range(400)
    )
    assert 1 <= alarms <= 36
