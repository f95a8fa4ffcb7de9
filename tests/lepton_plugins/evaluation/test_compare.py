"""Comparing versions: best, ties, differences, and who can't be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.errors import ColumnMissing, ModelFailed, NothingToCompare, UnknownMetric
from lepton_plugins.evaluation.candidate import failure
from lepton_plugins.evaluation.chart import comparison_png
from lepton_plugins.evaluation.compare import compare
from lepton_plugins.evaluation.comparison import Comparison
from lepton_plugins.evaluation.difference import paired_difference
from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate, take_over
from lepton_plugins.evaluation.predictions import read_predictions

from .conftest import FEATURES, Register, make_flights


def run(registry: MlflowRegistry, data: pd.DataFrame, **more: Any) -> None:
    options = EvaluationOptions(cost=False, trust="pickle", dataset_name="june")
    evaluate(registry, "flights", data, target="late", task="classification", options=options, **more)


def test_a_failure_is_told_once() -> None:
    failed = failure("predict", ModelFailed("1", "predict", "ValueError: boom."))
    assert failed.reason == "ValueError: boom."
    assert failure("score", ModelFailed("1", "predict", "boom")).reason == "Version 1 failed to predict: boom"
    said = str(NothingToCompare("flights", [f"version 1: its evaluation failed (predict): {failed.reason}"]))
    assert "(predict): ValueError: boom. Run: lepton evaluate" in said


def test_versions_side_by_side(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame, tmp_path: Path
) -> None:
    for name in ("linear", "trees", "weak", "linear"):
        register(trained[name])
    run(own, flights, slices=["carrier", "distance:3"], context=["origin"])
    comparison = compare(own, "flights")
    assert (comparison.metric, comparison.task, comparison.dataset.rows) == ("log_loss", "classification", 3000)
    assert [version.version for version in comparison.versions] == ["1", "2", "3", "4"]
    row = comparison.headline
    values = [entry.estimate.value for entry in row.entries]
    best = min(range(4), key=lambda i: values[i])  # type: ignore[arg-type,return-value]
    assert row.entries[best].verdict == "best"
    assert {row.entries[0].verdict, row.entries[3].verdict} <= {"best", "tie"}, "the same model twice"
    assert row.entries[2].verdict == "worse", "one feature only"
    outputs = {}
    for version in ("1", "2", "3", "4"):
        report = own.get_report("flights", version)
        assert report is not None
        path = own.get_report_file(report, "predictions.parquet", tmp_path / version)
        assert path is not None
        outputs[version] = read_predictions(path, report)
    leader = outputs[row.entries[best].version]
    for entry in row.entries:
        if entry.verdict == "best":
            assert entry.difference is None
            continue
        expected = paired_difference(
            "log_loss", "classification", leader.target, leader.output, outputs[entry.version].output, ("0", "1")
        )
        assert entry.difference == expected
        assert (entry.verdict == "tie") == (expected.low <= 0 <= expected.high)  # type: ignore[operator]
    assert [slice_.name for slice_ in comparison.slices[:3]] == ["carrier AA", "carrier DL", "carrier UA"]
    assert len(comparison.slices) == 6
    report = own.get_report("flights", "2")
    assert report is not None
    measured = {(slice_.by, slice_.value): slice_ for slice_ in report.slices}
    for slice_ in comparison.slices:
        assert slice_.entries[1].estimate == measured[slice_.by, slice_.value].metrics["log_loss"]
        assert slice_.n == measured[slice_.by, slice_.value].n
        assert sum(entry.verdict == "best" for entry in slice_.entries) == 1

    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison
    html = comparison._repr_html_()
    assert html.count("<b>") >= len(comparison.overall)
    assert "≈" in html

    auc = compare(own, "flights", metric="roc_auc", by="carrier,origin")
    assert [row.metric for row in auc.overall] == ["roc_auc"], "asked for one metric"
    assert "log_loss" not in auc.model_dump_json()
    assert "log_loss" not in auc._repr_html_()
    assert auc.headline.greater_is_better
    assert [slice_.by for slice_ in auc.slices] == [("carrier", "origin")] * 6, "any cut of the columns that were kept"
    picture = comparison_png(auc, tmp_path / "auc.png")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 20_000

    with pytest.raises(UnknownMetric, match="Did you mean 'roc_auc'"):
        compare(own, "flights", metric="roc_auk")
    with pytest.raises(ColumnMissing, match="'x2'"):
        compare(own, "flights", by="x2")


def test_versions_without_a_report_on_the_same_data_are_listed_with_the_reason(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame
) -> None:
    import mlflow

    for name in ("linear", "trees", "linear", "signed", "linear", "linear"):
        register(trained[name])
    run(own, flights, versions=["1", "2"])
    run(own, make_flights(500, 9), versions=["3"])
    run(own, flights.drop(columns=[*FEATURES[1:]]), versions=["4"])
    client = mlflow.MlflowClient(own.uri, own.uri)
    theirs = client.create_run("0")
    client.log_metric(theirs.info.run_id, "accuracy_score", 0.99)
    take_over(own, "flights", "5", theirs.info.run_id)
    comparison = compare(own, "flights")
    assert [version.version for version in comparison.versions] == ["1", "2"]
    reasons = {out.version: out.reason for out in comparison.left_out}
    assert "other data (june, 500 rows" in reasons["3"]
    assert "failed (predict)" in reasons["4"]
    assert "other data" in reasons["5"]
    assert reasons["6"] == "it has no evaluation report"
    assert all(out.reason in comparison._repr_html_().replace("&#x27;", "'") for out in comparison.left_out)


def test_nothing_to_compare_is_an_error_that_says_what_to_do(
    own: MlflowRegistry, register: Register, trained: dict[str, Path]
) -> None:
    register(trained["linear"])
    with pytest.raises(NothingToCompare, match=r"version 1: it has no evaluation report.*lepton evaluate flights"):
        compare(own, "flights")


def test_what_a_run_measured_is_taken_over_and_marked(
    own: MlflowRegistry, register: Register, trained: dict[str, Path]
) -> None:
    import mlflow

    register(trained["linear"], label="v1")
    client = mlflow.MlflowClient(own.uri, own.uri)
    theirs = client.create_run("0")
    for name, value in {"accuracy_score": 0.9, "log_loss": 0.3, "my_error": 2.0, "my_score": 3.0}.items():
        client.log_metric(theirs.info.run_id, name, value)
    report = take_over(own, "flights", "v1", theirs.info.run_id)
    assert report.task == "classification"
    accuracy = report.metrics["accuracy"]
    assert (accuracy.value, accuracy.low, accuracy.high, accuracy.n) == (0.9, None, None, 0)
    assert accuracy.method == f"reported by run {theirs.info.run_id}, no interval"
    assert not report.metrics["my_error"].greater_is_better
    assert report.metrics["my_score"].greater_is_better
    assert "nothing was measured by Lepton" in report.notes[0]
    assert own.get_report("flights", "1") == report
    empty = client.create_run("0").info.run_id
    with pytest.raises(Exception, match="no metrics"):
        take_over(own, "flights", "v1", empty)
    client.log_metric(empty, "speed", 1.0)
    with pytest.raises(Exception, match="--task"):
        take_over(own, "flights", "v1", empty)
    assert take_over(own, "flights", "v1", empty, task="regression").metrics["speed"].value == 1.0


def test_two_versions_alike_are_a_tie_everywhere(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame
) -> None:
    register(trained["trees"])
    register(trained["trees"])
    run(own, flights, slices=["carrier"])
    comparison = compare(own, "flights")
    for row in (*comparison.overall, *comparison.slices):
        verdicts = sorted(entry.verdict for entry in row.entries)
        assert verdicts == ["best", "tie"], row.metric
        difference = next(entry.difference for entry in row.entries if entry.difference is not None)
        assert difference.value == pytest.approx(0, abs=1e-12)
        assert np.isfinite([difference.low, difference.high]).all()  # type: ignore[list-item]
