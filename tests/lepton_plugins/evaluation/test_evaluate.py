"""Evaluating real versions in a real registry: figures, data, progress, what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.errors import LeptonError
from lepton_plugins.evaluation.evaluate import evaluate
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.version import ModelVersion

from .conftest import FEATURES, QUICK, Register, answering, predictions_of, run, save_estimator


def test_versions_of_several_formats_are_measured_as_scikit_learn_measures(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame, tmp_path: Path
) -> None:
    for name in ("linear", "signed", "trees"):
        register(trained[name], label=name)
    file = tmp_path / "june.parquet"
    flights.to_parquet(file)
    reports = run(own, file, slices=["carrier", "carrier,origin", "distance:4"], context=["origin"])
    assert [(report.label, report.backend, report.output) for report in reports] == [
        ("linear", "onnxruntime", "proba"),
        ("signed", "pyfunc", "proba"),
        ("trees", "onnxruntime", "proba"),
    ]
    for report in reports:
        assert report.ok
        assert report.dataset.rows == len(flights)
        assert own.get_report("flights", report.version) == report, "it is read back as it was returned"
        found = predictions_of(own, report, tmp_path / report.version)
        late, proba = flights.late.to_numpy(), found.output
        assert (found.row_id == np.arange(len(flights))).all()
        assert (found.target == flights.late.astype(str)).all()
        assert set(found.columns) == {"carrier", "origin", "distance"}
        for name, value in {
            "accuracy": sk.accuracy_score(late, proba.argmax(1)),
            "balanced_accuracy": sk.balanced_accuracy_score(late, proba.argmax(1)),
            "precision": sk.precision_score(late, proba.argmax(1)),
            "recall": sk.recall_score(late, proba.argmax(1)),
            "f1": sk.f1_score(late, proba.argmax(1)),
            "roc_auc": sk.roc_auc_score(late, proba[:, 1]),
            "log_loss": sk.log_loss(late, proba),
            "brier": sk.brier_score_loss(late, proba[:, 1]),
        }.items():
            estimate = report.metrics[name]
            assert estimate.value == pytest.approx(value, rel=1e-9), name
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low < value < estimate.high
        by_carrier = {slice_.value: slice_ for slice_ in report.slices if slice_.by == ("carrier",)}
        assert list(by_carrier) == [("AA",), ("DL",), ("UA",)]
        for (carrier,), slice_ in by_carrier.items():
            rows = (flights.carrier == carrier).to_numpy()
            assert slice_.n == rows.sum()
            assert slice_.metrics["roc_auc"].value == pytest.approx(sk.roc_auc_score(late[rows], proba[rows, 1]))
        assert sum(slice_.by == ("carrier", "origin") for slice_ in report.slices) == 6
        assert sum(slice_.n for slice_ in report.slices if slice_.by == ("distance",)) == len(flights)
    assert len({report.dataset.digest for report in reports}) == 1


def test_files_are_copied_once_and_loaded_once(
    own: MlflowRegistry,
    register: Register,
    flights: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "loads"

    def loaded() -> None:
        with log.open("a") as stream:
            stream.write("x")

    def half(rows: pd.DataFrame) -> Any:
        return np.full((len(rows), 2), 0.5)

    for index in range(2):
        register(save_estimator(answering(half, on_load=loaded), tmp_path / f"{index}.pkl"))
    log.unlink(missing_ok=True)
    fetched: list[str] = []
    fetch = own.fetch
    monkeypatch.setattr(own, "fetch", lambda version, to: fetched.append(version.version) or fetch(version, to))
    reports = run(own, flights, options=QUICK.model_copy(update={"chunk_rows": 100}))
    assert all(report.ok for report in reports)
    assert fetched == ["1", "2"]
    assert log.read_text() == "xx"


@pytest.mark.parametrize(
    ("change", "asked", "code", "says"),
    [
        ({}, {"target": "lat"}, "column_missing", "Did you mean 'late'"),
        ({"late": 1}, {}, "one_class_only", "all 3000 labelled rows are '1'"),
        ({"late": None}, {}, "data_empty", "all 3000 rows lack a value in 'late'"),
        ({"late": np.linspace(0.1, 0.9, 3000)}, {}, "target_invalid", "decimal numbers"),
        ({}, {"slices": ["carier"]}, "column_missing", "Did you mean 'carrier'"),
        ({}, {"slices": ["x0"]}, "too_many_slices", "x0:4"),
        ({}, {"slices": ["carrier:3"]}, "invalid_input", "isn't numeric"),
        ({}, {"slices": ["distance:4", "distance:9"]}, "invalid_input", "sliced twice"),
        ({}, {"context": ["nobody"]}, "column_missing", "context"),
        ({"target": 1}, {"slices": ["target"]}, "column_reserved", "Rename"),
        ({"late": "soon"}, {"task": "regression"}, "target_invalid", "'soon'"),
        ({}, {"task": "ranking"}, "invalid_input", "--group"),
        ({}, {"versions": ["9"]}, "version_not_found", "'9'"),
        ({}, {"task": "classify"}, "invalid_input", "no task 'classify'. Did you mean 'classification'?"),
        ({}, {"task": "ranking"}, "invalid_input", "in Python: options=EvaluationOptions(group=COL)"),
        ({}, {"options": QUICK.model_copy(update={"evaluators": ("evidentli",)})}, "unknown_plugin", "evidently"),
        ({}, {"options": QUICK.model_copy(update={"positive": "yes"})}, "invalid_input", "'yes'"),
    ],
)
def test_data_that_cannot_be_evaluated_is_one_clear_error_before_anything_is_fetched(
    own: MlflowRegistry,
    register: Register,
    trained: dict[str, Path],
    flights: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    asked: dict[str, Any],
    code: str,
    says: str,
) -> None:
    register(trained["linear"])
    monkeypatch.setattr(own, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(LeptonError) as caught:
        run(own, flights.assign(**change), **asked)
    assert caught.value.code == code
    assert says in str(caught.value)


def test_rows_without_target_are_left_out_and_counted(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame, tmp_path: Path
) -> None:
    register(trained["linear"])
    holes = flights[[*FEATURES, "late"]].astype({"late": "float"})
    holes.loc[[0, 7, 8], "late"] = np.nan
    (report,) = run(own, holes)
    assert report.dataset.rows == len(flights) - 3
    assert report.classes == ("0", "1"), "1.0 is the class 1"
    assert "3 of 3000 rows have no target and were left out" in report.notes
    found = predictions_of(own, report, tmp_path)
    assert found.row_id[:6].tolist() == [1, 2, 3, 4, 5, 6]
    assert found.row_id[6] == 9


def test_what_stands_against_the_data_leaves_the_earlier_reports_in_place(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame
) -> None:
    register(trained["linear"])
    good = run(own, flights[[*FEATURES, "late"]])[0]
    words = {0: "on time", 1: "late"}
    mistakes = {
        "classes_differ": flights[FEATURES].assign(late=flights.late.map(words)),
        "input_invalid": flights[["x0", "late"]],
    }
    for code, data in mistakes.items():
        (report,) = run(own, data)
        assert report.failure is not None
        assert report.failure.code == code
        assert "not stored: its earlier report stays (on 'june')" in report.notes
        assert own.get_report("flights", "1") == good
    register(trained["signed"])
    _, first = run(own, flights[["x0", "x1", "late"]])
    assert own.get_report("flights", "2") == first, "without an earlier one the failure is the report"


def test_progress_tells_every_stage_and_the_rows(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame
) -> None:
    told: list[Any] = []

    class Watch:
        def begin(self, versions: Any, rows: int) -> None:
            told.append(("begin", [version.version for version in versions], rows))

        def stage(self, version: ModelVersion, stage: str, total: int = 0) -> None:
            told.append((version.version, stage, total))

        def advance(self, version: ModelVersion, done: int) -> None:
            told.append((version.version, done))

        def finish(self, version: ModelVersion, report: EvaluationReport) -> None:
            told.append((version.version, "finish", report.ok))

    register(trained["linear"])
    options = QUICK.model_copy(update={"cost": True, "cost_seconds": 0.1, "chunk_rows": 1000})
    run(own, flights[[*FEATURES, "late"]], options=options, progress=Watch())
    assert told == [
        ("begin", ["1"], 3000),
        ("1", "fetch", 0),
        ("1", "load", 0),
        ("1", "predict", 3000),
        ("1", 1000),
        ("1", 2000),
        ("1", 3000),
        ("1", "cost", 0),
        ("1", "score", 0),
        ("1", "save", 0),
        ("1", "finish", True),
    ]


def test_the_same_over_http(
    mlflow_server: str, model_name: str, trained: dict[str, Path], flights: pd.DataFrame
) -> None:
    from lepton_plugins.evaluation.compare import compare

    registry = MlflowRegistry(mlflow_server)
    for name in ("linear", "trees"):
        registry.register(model_name, trained[name], framework="onnx", label=name, metadata={})
    data = flights[[*FEATURES, "carrier", "late"]]
    asked: dict[str, Any] = {"target": "late", "task": "classification", "slices": ["carrier"], "options": QUICK}
    reports = evaluate(registry, model_name, data, **asked)
    assert [registry.get_report(model_name, report.version) for report in reports] == reports
    comparison = compare(registry, model_name)
    assert [entry.estimate for entry in comparison.headline.entries] == [
        report.metrics["log_loss"] for report in reports
    ]
    assert len(comparison.slices) == 3
