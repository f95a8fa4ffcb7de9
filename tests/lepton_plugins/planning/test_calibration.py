"""The warning about versions whose scores differ in scale."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.planning.calibration import pooled_warning
from lepton_plugins.records.report import Dataset


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
    paired = PairedPredictions(
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
    )
    return paired, segment


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
