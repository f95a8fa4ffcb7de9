"""Pairing predictions: rows that line up, rankings by list, columns of any version."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_plugins.evaluation.paired import pair
from lepton_plugins.evaluation.predictions import Predictions
from lepton_plugins.records.report import Dataset, EvaluationReport


def report_of(version: str, task: str, **facts) -> EvaluationReport:
    return EvaluationReport(
        model="m", version=version, dataset=Dataset(name="d", digest="d", rows=6), task=task, target="y", **facts
    )


def predictions_of(output, target=(1, 0, 0, 1, 0, 1), groups=None, **columns) -> Predictions:
    return Predictions(
        row_id=np.arange(6),
        target=np.asarray(target, dtype=float),
        output=np.asarray(output, dtype=float),
        columns={name: np.asarray(values, dtype=object) for name, values in columns.items()},
        groups=groups,
    )


def test_a_regression():
    reports = [report_of("1", "regression"), report_of("2", "regression")]
    paired, unpaired = pair(
        reports,
        [predictions_of([1, 0, 0, 1, 0, 0], a=list("xyxyxy")), predictions_of([0.5] * 6, b=list("uvuvuv"))],
        "mse",
    )
    assert not unpaired
    assert paired.values[:, 0].tolist() == [0, 0, 0, 0, 0, 1]
    assert paired.baseline == pytest.approx(0.25)
    assert paired.utility[:, 1] == pytest.approx(0.5)
    assert set(paired.columns) == {"a", "b"}
    assert paired.improvement(np.array([[0.0, 1.0]] * 6)).mean() == pytest.approx(1 / 6 - 0.25)


def test_versions_that_do_not_line_up():
    other = predictions_of([0] * 6, target=[0] * 6)
    holes = predictions_of([0, np.nan, 0, 0, np.nan, 0])
    reports = [report_of(version, "regression") for version in "123"]
    paired, unpaired = pair(reports, [predictions_of([0] * 6), other, holes], "mse")
    assert paired.versions == ["1"]
    assert [error.version for error in unpaired] == ["2", "3"]
    assert "of other rows than those of version 1" in str(unpaired[0])
    assert "2 rows have no finite mse" in str(unpaired[1])


def test_a_ranking_has_one_row_a_list():
    groups = np.array([0, 0, 0, 1, 1, 2])
    target = [1, 0, 0, 0, 0, 1]  # The second list has nothing relevant.
    reports = [report_of("1", "ranking"), report_of("2", "ranking")]
    paired, _ = pair(
        reports,
        [
            predictions_of([3, 2, 1, 1, 2, 1], target, groups, segment=list("aaabbc")),
            predictions_of([1, 2, 3, 1, 2, 1], target, groups),
        ],
        "ndcg@10",
    )
    assert paired.rows == 2
    assert paired.values[:, 0].tolist() == [1, 1]
    assert paired.values[:, 1].tolist() == [0.5, 1]
    assert paired.columns["segment"].tolist() == ["a", "c"]
    assert paired.groups is None
    assert paired.baseline is None
    assert paired.greater_is_better
