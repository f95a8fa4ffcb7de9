"""Versions whose files don't name the table's columns: what evaluation found is what the router takes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from lepton_plugins import ModelRegistry
from lepton_plugins.cli.main import app
from lepton_plugins.errors import InputMissing, NoArmLeft
from lepton_plugins.evaluation.options import EvaluationOptions

SPEC = {"model": "m", "policy": {"kind": "segment_best", "params": {"by": ["carrier"]}}}


@pytest.fixture
def data() -> pd.DataFrame:
    """With AA `b` tells the class, with UA `a` does; `hub` is a number that no version takes."""
    random = np.random.default_rng(0)
    carrier = np.where(np.arange(1200) % 2, "AA", "UA")
    a, b = random.normal(size=(2, 1200))
    late = np.where(carrier == "AA", b > 0, a > 0).astype(int)
    return pd.DataFrame({"carrier": carrier, "b": b, "a": a, "hub": np.arange(1200) % 3, "late": late})


def fitted(data: pd.DataFrame, carrier: str, names: bool) -> LogisticRegression:
    rows = data[data.carrier == carrier]
    features = rows[["b", "a"]]
    return LogisticRegression().fit(features if names else features.to_numpy("float32"), rows.late)


def route(uri: str, paths: list[Path], data: pd.DataFrame, framework: str, folder: Path) -> pd.DataFrame:
    """Register, evaluate, plan, promote, then `lepton predict`: a row with its answer and version."""
    registry = ModelRegistry(uri)
    for path in paths:
        registry.register_model("m", path, model_framework=framework)
    options = EvaluationOptions(trust="pickle", cost_seconds=0.1)
    reports = registry.evaluate(
        "m", data, target="late", task="classification", slices=["carrier", "hub"], options=options
    )
    assert [report.failure for report in reports] == [None, None]
    for report in reports:
        assert report.signature.input_names == ("b", "a")
        assert report.signature.layout == "columns"
        assert report.resources.peak_memory is not None
        assert not any("memory wasn't measured" in note for note in report.notes)
    plan = registry.plan(SPEC, trust="pickle").plan
    assert plan.signature.input_names == ("b", "a", "carrier")
    registry.promote("m", why="test")
    data.to_parquet(folder / "data.parquet")
    answers = folder / "answers.parquet"
    arguments = ["predict", "m", "--data", str(folder / "data.parquet"), "--to", str(answers), "--decisions"]
    ran = CliRunner().invoke(app, arguments, env={"LEPTON_REGISTRY_URI": uri, "MLFLOW_TRACKING_URI": uri})
    assert ran.exit_code == 0, ran.output
    return pd.read_parquet(answers)


def check_answers(answers: pd.DataFrame, data: pd.DataFrame, models: dict[str, LogisticRegression]) -> None:
    assert set(answers.version[data.carrier == "AA"]) == {"1"}
    assert set(answers.version[data.carrier == "UA"]) == {"2"}
    for carrier, model in models.items():
        rows = (data.carrier == carrier).to_numpy()
        features = data.loc[rows, ["b", "a"]]
        given = features if hasattr(model, "feature_names_in_") else features.to_numpy()
        expected = model.predict_proba(given)[:, 1]
        np.testing.assert_allclose(answers.loc[rows, "proba_1"], expected, atol=1e-5)


def test_one_tensor_is_filled_from_columns_when_serving_as_when_evaluating(
    sqlite_uri: str, data: pd.DataFrame, tmp_path: Path
) -> None:
    from skl2onnx import to_onnx

    models = {carrier: fitted(data, carrier, names=False) for carrier in ("AA", "UA")}
    paths = []
    for carrier, model in models.items():
        paths.append(tmp_path / f"{carrier}.onnx")
        paths[-1].write_bytes(to_onnx(model, np.zeros((1, 2), dtype=np.float32)).SerializeToString())
    check_answers(route(sqlite_uri, paths, data, "onnx", tmp_path), data, models)

    router = ModelRegistry(sqlite_uri).router("m", directory=tmp_path / "deployment")
    shuffled = data[["carrier", "a", "b"]]
    whole = router.predict(shuffled).values
    one = router.predict({name: shuffled[name].to_numpy()[:1] for name in shuffled}).values
    np.testing.assert_allclose(one, whole[:1], atol=1e-6)
    assert router.explain({"a": 1.0, "b": 1.0, "carrier": "AA"}).chosen == "1"
    with pytest.raises(InputMissing, match="'a'"):
        router.predict(data[["carrier", "b"]])
    router.close()


def test_a_tensor_of_another_width_is_refused_when_evaluated(
    sqlite_uri: str, data: pd.DataFrame, tmp_path: Path
) -> None:
    from skl2onnx import to_onnx

    path = tmp_path / "model.onnx"
    model = fitted(data, "AA", names=False)
    path.write_bytes(to_onnx(model, np.zeros((1, 2), dtype=np.float32)).SerializeToString())
    registry = ModelRegistry(sqlite_uri)
    registry.register_model("m", path, model_framework="onnx")
    options = EvaluationOptions(cost=False)
    (report,) = registry.evaluate(
        "m", data.drop(columns=["a", "hub"]), target="late", task="classification", options=options
    )
    assert report.failure is not None
    assert "exactly 2 numeric columns" in report.failure.reason
    with pytest.raises(NoArmLeft):
        registry.plan(SPEC)


@pytest.mark.parametrize("names", [True, False])
def test_a_pickled_estimator_without_signature_gets_its_features_only(
    sqlite_uri: str, data: pd.DataFrame, tmp_path: Path, names: bool
) -> None:
    models = {carrier: fitted(data, carrier, names) for carrier in ("AA", "UA")}
    paths = []
    for carrier, model in models.items():
        paths.append(tmp_path / f"{carrier}.pkl")
        paths[-1].write_bytes(pickle.dumps(model))
    check_answers(route(sqlite_uri, paths, data, "sklearn", tmp_path), data, models)
