"""Evaluating real versions in a real registry: figures, failures, trust, what is stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.errors import LeptonError
from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate
from lepton_plugins.evaluation.predictions import read_predictions
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.version import ModelVersion

from .conftest import FEATURES, answering, save_estimator

Register = Callable[..., ModelVersion]
QUICK = EvaluationOptions(cost=False, trust="pickle", dataset_name="june")


def run(registry: MlflowRegistry, data: Any, **more: Any) -> list[EvaluationReport]:
    asked = {"target": "late", "task": "classification", "options": QUICK, **more}
    return evaluate(registry, "flights", data, **asked)


def predictions_of(registry: MlflowRegistry, report: EvaluationReport, to: Path) -> Any:
    path = registry.get_report_file(report, "predictions.parquet", to)
    assert path is not None
    return read_predictions(path, report)


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


def test_one_version_that_fails_has_a_report_that_says_so_and_the_others_go_on(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame, tmp_path: Path
) -> None:
    def nan(rows: pd.DataFrame) -> Any:
        answer = np.full((len(rows), 2), 0.5)
        answer[rows.x0.to_numpy() > 1.5] = np.nan
        return answer

    def crash(rows: pd.DataFrame) -> Any:
        raise KeyError("no such column")

    def quit_(rows: pd.DataFrame) -> Any:
        raise SystemExit(3)

    def shape(rows: pd.DataFrame) -> Any:
        return np.full((len(rows) + 1, 2), 0.5)

    def slow(rows: pd.DataFrame) -> Any:
        time.sleep(30)

    def broken_load() -> None:
        raise RuntimeError("built for another version")

    models = [nan, crash, quit_, shape, slow]
    register(trained["trees"])
    for model in models:
        register(save_estimator(answering(model), tmp_path / f"{model.__name__}.pkl"))
    register(save_estimator(answering(nan, on_load=broken_load), tmp_path / "load.pkl"))
    register(trained["linear"])
    begun = time.monotonic()
    reports = run(own, flights[[*FEATURES, "late"]], options=QUICK.model_copy(update={"time_limit": 2.0}))
    assert time.monotonic() - begun < 30
    found = [(r.failure.stage, r.failure.code) if r.failure else None for r in reports]
    assert found == [
        None,
        ("predict", "output_invalid"),
        ("predict", "model_failed"),
        ("predict", "model_failed"),
        ("predict", "output_unavailable"),
        ("predict", "timed_out"),
        ("load", "model_failed"),
        None,
    ]
    failure = reports[1].failure
    assert failure is not None
    rows = int((flights.x0 > 1.5).sum())
    assert f"NaN in {rows} of {len(flights)} rows (first: row {int((flights.x0 > 1.5).argmax())})" in failure.reason
    assert "no such column" in str(reports[2].failure)
    assert "built for another version" in str(reports[6].failure)
    for report in reports:
        assert own.get_report("flights", report.version) == report, "failed ones are stored too"


def test_formats_that_carry_code_need_leave_and_are_not_touched_without(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame, tmp_path: Path
) -> None:
    witness = tmp_path / "loaded"

    def touch() -> None:
        witness.touch()

    def half(rows: pd.DataFrame) -> Any:
        return np.full((len(rows), 2), 0.5)

    version = register(save_estimator(answering(half, on_load=touch), tmp_path / "m.pkl"))
    register(trained["linear"])
    witness.unlink(missing_ok=True)
    cautious = EvaluationOptions(cost_seconds=0.1)
    refused, other = run(own, flights[[*FEATURES, "late"]], options=cautious)
    assert refused.failure is not None
    assert (refused.failure.stage, refused.failure.code) == ("load", "trust_required")
    assert refused.carries_code
    assert "--trust pickle" in refused.failure.reason
    assert not witness.exists(), "its code didn't run, in no process"
    assert other.ok

    trusted, _ = run(own, flights[[*FEATURES, "late"]])
    assert trusted.ok
    assert witness.exists()
    again, _ = run(own, flights[[*FEATURES, "late"]], options=cautious)
    assert again.failure is not None
    assert any("earlier report stays" in note for note in again.notes)
    assert own.get_report("flights", version.version) == trusted


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


def test_a_version_that_needs_another_column_says_which(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame
) -> None:
    register(trained["signed"])
    register(trained["bare"])
    signed, bare = run(own, flights[["x0", "x1", "late"]].rename(columns={"x1": "x_1"}))
    assert signed.failure is not None
    assert signed.failure.code == "inputs_missing"
    assert "x1, x2, distance" in signed.failure.reason
    assert bare.failure is not None
    assert bare.failure.code == "inputs_missing", "it knows the columns that it was fitted on"
    assert "x1" in bare.failure.reason


def test_a_classifier_without_probabilities_is_scored_by_its_labels(
    own: MlflowRegistry, register: Register, flights: pd.DataFrame, tmp_path: Path
) -> None:
    from sklearn.linear_model import RidgeClassifier

    model = RidgeClassifier().fit(flights[["x0", "x1"]], flights.late)
    register(save_estimator(model, tmp_path / "ridge.pkl"))
    (report,) = run(own, flights[["x0", "x1", "late"]])
    assert report.output == "label"
    assert report.metrics["accuracy"].value == pytest.approx(model.score(flights[["x0", "x1"]], flights.late))
    assert report.metrics["roc_auc"].value is None
    assert any("scored by its labels" in note and "no predict_proba" in note for note in report.notes)


def test_three_classes_by_name_with_a_class_that_the_model_never_saw(
    own: MlflowRegistry, register: Register, flights: pd.DataFrame, tmp_path: Path
) -> None:
    from sklearn.linear_model import LogisticRegression

    data = flights.assign(when=np.select([flights.x0 > 0.5, flights.x0 < -0.5], ["late", "early"], "on time"))
    features = ["x0", "x1"]
    whole = LogisticRegression().fit(data[features], data.when)
    part = LogisticRegression().fit(*(data[data.when != "early"][columns] for columns in (features, "when")))
    for index, model in enumerate((whole, part)):
        register(save_estimator(model, tmp_path / f"{index}.pkl"))
    first, second = run(own, data[[*features, "when"]], target="when")
    assert first.classes == second.classes == ("early", "late", "on time")
    assert first.metrics["log_loss"].value == pytest.approx(sk.log_loss(data.when, whole.predict_proba(data[features])))
    assert first.metrics["f1_macro"].value == pytest.approx(
        sk.f1_score(data.when, whole.predict(data[features]), average="macro")
    )
    assert any("early" in note for note in second.notes)
    assert second.metrics["accuracy"].value == pytest.approx(sk.accuracy_score(data.when, part.predict(data[features])))


def test_regression_and_quantiles(
    own: MlflowRegistry, register: Register, flights: pd.DataFrame, tmp_path: Path
) -> None:
    from sklearn.linear_model import LinearRegression

    data = flights[["x0", "x1"]].assign(delay=flights.x0 * 3 + np.random.default_rng(5).normal(size=len(flights)))
    model = LinearRegression().fit(data[["x0", "x1"]], data.delay)

    class Quantiles:
        def predict(self, rows: pd.DataFrame) -> Any:
            return np.stack([rows.x0 * 3 - 1.28, rows.x0 * 3, rows.x0 * 3 + 1.28], axis=1)

    register(save_estimator(model, tmp_path / "m.pkl"))
    register(save_estimator(Quantiles(), tmp_path / "q.pkl"))
    options = QUICK.model_copy(update={"quantiles": (0.1, 0.5, 0.9)})
    plain, quantiles = run(own, data, target="delay", task="regression", options=options)
    predicted = model.predict(data[["x0", "x1"]])
    assert plain.output == "value"
    assert plain.metrics["rmse"].value == pytest.approx(sk.root_mean_squared_error(data.delay, predicted))
    assert plain.metrics["r2"].value == pytest.approx(sk.r2_score(data.delay, predicted))
    assert quantiles.classes == ("0.1", "0.5", "0.9")
    high = sk.mean_pinball_loss(data.delay, data.x0 * 3 + 1.28, alpha=0.9)
    assert quantiles.metrics["pinball@0.9"].value == pytest.approx(high)
    assert predictions_of(own, quantiles, tmp_path).output.shape == (len(data), 3)


def test_a_ranking_is_scored_by_user(own: MlflowRegistry, register: Register, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    users, items = 80, 12
    data = pd.DataFrame(
        {"user": np.repeat([f"u{i}" for i in range(users)], items), "x0": rng.normal(size=users * items)}
    )
    data["liked"] = (data.x0 + rng.normal(size=len(data)) > 1).astype(float)

    class Scores:
        def predict(self, rows: pd.DataFrame) -> Any:
            return rows.x0.to_numpy()

    register(save_estimator(Scores(), tmp_path / "m.pkl"))
    options = QUICK.model_copy(update={"group": "user"})
    (report,) = run(own, data, target="liked", task="ranking", options=options)
    assert report.output == "score"
    by_user = [sk.ndcg_score([one.liked], [one.x0], k=10) for _, one in data.groupby("user") if one.liked.any()]
    assert report.metrics["ndcg@10"].value == pytest.approx(np.mean(by_user))
    assert len(np.unique(predictions_of(own, report, tmp_path).groups)) == users


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


def test_an_evaluator_that_fails_costs_nothing_but_its_own_files(
    own: MlflowRegistry,
    register: Register,
    trained: dict[str, Path],
    flights: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import lepton_evidently.evaluator

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("no rows")

    monkeypatch.setattr(lepton_evidently.evaluator.EvidentlyEvaluator, "evaluate", fail)
    register(trained["linear"])
    options = QUICK.model_copy(update={"evaluators": ("evidently",)})
    (report,) = run(own, flights[[*FEATURES, "late"]], options=options)
    assert report.ok
    assert any("'evidently' failed: ZeroDivisionError: no rows" in note for note in report.notes)
    assert own.get_report_file(report, "chart.png", tmp_path) is not None


def test_a_registry_that_may_not_be_written_costs_the_storing_only(
    own: MlflowRegistry,
    register: Register,
    trained: dict[str, Path],
    flights: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lepton_plugins.errors import RegistryReadOnly

    register(trained["linear"])

    def refuse(*_: Any) -> None:
        raise RegistryReadOnly("http://registry", "save a report")

    monkeypatch.setattr(own, "save_report", refuse)
    (report,) = run(own, flights[[*FEATURES, "late"]])
    assert report.metrics["accuracy"].value is not None
    assert report.run_id is None
    assert any(note.startswith("not stored: The registry at http://registry") for note in report.notes)


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
