"""The pyfunc backend on models that MLflow saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from lepton_mlflow.backend import PyfuncBackend
from lepton_mlflow.backend_results import interpret
from lepton_plugins.errors import ModelFilesInvalid, OutputUnavailable, PackageMissing, RequestInvalid, TrustRequired
from lepton_plugins.routing.loading import find_backend, load_version

BACKEND = PyfuncBackend()
RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "a": RANDOM.normal(size=200),
        "i": RANDOM.integers(0, 9, 200),
        "kind": RANDOM.choice(["x", "y"], 200),
    }
)
LATE = np.where(FRAME["a"] > 0, "late", "ontime")


def columns(frame: pd.DataFrame = FRAME) -> dict[str, np.ndarray]:
    return {
        name: frame[name].to_numpy(dtype=object) if frame[name].dtype == object else frame[name].to_numpy()
        for name in frame
    }


def pipeline(last: Any) -> Any:
    return make_pipeline(make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["a", "i"])), last)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One model in each of scikit-learn's formats."""
    folder = tmp_path_factory.mktemp("sklearn")
    model = pipeline(LogisticRegression()).fit(FRAME, LATE)
    signature = infer_signature(FRAME, LATE)
    for name in ("skops", "pickle", "cloudpickle"):
        mlflow.sklearn.save_model(
            model, folder / name, signature=signature, serialization_format=name, pip_requirements=["numpy"]
        )
    mlflow.sklearn.save_model(
        model,
        folder / "trusting",
        signature=signature,
        serialization_format="skops",
        skops_trusted_types=["os.system"],
        pip_requirements=["numpy"],
    )
    return folder, model


@pytest.mark.parametrize(
    ("name", "format", "carries"),
    [
        ("skops", "skops", False),
        ("pickle", "pickle", True),
        ("cloudpickle", "cloudpickle", True),
        ("trusting", "skops", True),
    ],
)
def test_scikit_learns_formats_and_what_they_carry(saved, name, format, carries):
    folder, model = saved
    backend, inspection = find_backend(folder / name)
    assert (backend, inspection.format, inspection.carries_code) == ("pyfunc", format, carries)
    assert inspection.missing == ()
    assert [field.dtype for field in inspection.signature.inputs] == ["float64", "int64", "str"]
    if carries:
        with pytest.raises(TrustRequired):
            load_version(folder / name, "1")
    loaded, _, _ = load_version(folder / name, "1", trust="pickle" if carries else None)
    assert loaded.classes == ("late", "ontime")
    np.testing.assert_allclose(loaded.predict(columns(), "proba"), model.predict_proba(FRAME))
    assert loaded.predict(columns(), "label").tolist() == model.predict(FRAME).tolist()
    np.testing.assert_allclose(loaded.predict(columns(), "score"), model.decision_function(FRAME))
    with pytest.raises(OutputUnavailable, match="labels"):
        loaded.predict(columns(), "value")
    with pytest.raises(RequestInvalid, match="'kind'"):
        loaded.predict({name: values for name, values in columns().items() if name != "kind"}, "proba")


def test_a_directory_that_is_a_link(saved, tmp_path):
    """As a bento has them: MLflow itself refuses a path that leads out of the folder in which it begins."""
    folder, model = saved
    (tmp_path / "link").symlink_to(folder / "skops", target_is_directory=True)
    loaded, _, _ = load_version(tmp_path / "link", "1")
    np.testing.assert_allclose(loaded.predict(columns(), "proba"), model.predict_proba(FRAME))


def test_no_loader_is_imported_before_trust(saved):
    folder, _ = saved
    script = """
import sys
from pathlib import Path
from lepton_plugins.errors import TrustRequired
from lepton_plugins.routing.loading import load_version
try:
    load_version(Path(sys.argv[1]), "1")
except TrustRequired:
    print([m for m in ("mlflow", "sklearn", "skops", "pandas", "cloudpickle", "joblib") if m in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(folder / "cloudpickle")], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_a_classifier_without_probabilities_says_so(tmp_path):
    model = pipeline(LinearSVC()).fit(FRAME, LATE)
    mlflow.sklearn.save_model(model, tmp_path / "m", signature=infer_signature(FRAME, LATE), pip_requirements=["numpy"])
    loaded, _, _ = load_version(tmp_path / "m", "1", trust="pickle")
    with pytest.raises(OutputUnavailable, match="no predict_proba"):
        loaded.predict(columns(), "proba")
    np.testing.assert_allclose(loaded.predict(columns(), "score"), model.decision_function(FRAME))
    assert loaded.predict(columns(), "label").tolist() == model.predict(FRAME).tolist()


def test_a_regressor_gives_values(tmp_path):
    model = pipeline(LinearRegression()).fit(FRAME, 3 * FRAME["a"])
    mlflow.sklearn.save_model(
        model, tmp_path / "m", signature=infer_signature(FRAME, FRAME["a"]), pip_requirements=["numpy"]
    )
    loaded, _, _ = load_version(tmp_path / "m", "1", trust="pickle")
    np.testing.assert_allclose(loaded.predict(columns(), "value"), model.predict(FRAME))
    np.testing.assert_allclose(loaded.predict(columns(), "score"), model.predict(FRAME))
    for kind in ("proba", "label"):
        with pytest.raises(OutputUnavailable, match="values"):
            loaded.predict(columns(), kind)


def test_an_array_model_is_given_arrays(tmp_path):
    matrix = FRAME[["a", "i"]].to_numpy(dtype=np.float64)
    model = LogisticRegression().fit(matrix, LATE)
    mlflow.sklearn.save_model(
        model, tmp_path / "m", signature=infer_signature(matrix, LATE), pip_requirements=["numpy"]
    )
    loaded, _, inspection = load_version(tmp_path / "m", "1")
    assert inspection.signature.layout == "tensors"
    np.testing.assert_allclose(loaded.predict({"input": matrix}, "proba"), model.predict_proba(matrix))


# --- any pyfunc ----------------------------------------------------------------------------------


class Echo(mlflow.pyfunc.PythonModel):
    """Answers in the form it is told to."""

    def __init__(self, form: str) -> None:
        self.form = form

    def predict(self, context, model_input, params=None):
        p = 1 / (1 + np.exp(-model_input["a"].to_numpy()))
        names = np.where(p > 0.5, "yes", "no")
        return {
            "frame": lambda: pd.DataFrame({"label": names, "proba_no": 1 - p, "proba_yes": p}),
            "classes": lambda: pd.DataFrame({"no": 1 - p, "yes": p}),
            "dict": lambda: {"label": names, "probabilities": np.stack([1 - p, p], axis=1)},
            "list": lambda: p.tolist(),
            "series": lambda: pd.Series(p),
            "records": lambda: [{"label": n, "proba_no": 1 - v, "proba_yes": v} for n, v in zip(names, p, strict=True)],
        }[self.form]()


class Scaled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["a"].to_numpy() * params["scale"] + (100 if params["far"] else 0)


def test_parameters_of_a_pyfunc_are_inputs_that_may_be_left_out(tmp_path):
    frame = FRAME[["a"]].head(5)
    parameters = {"scale": 2.0, "far": False, "list": [1, 2]}
    mlflow.pyfunc.save_model(
        tmp_path / "m",
        python_model=Scaled(),
        signature=infer_signature(frame, params=parameters),
        pip_requirements=["numpy"],
    )
    _, inspection = find_backend(tmp_path / "m")
    found = {field.name: (field.dtype, field.shape, field.required) for field in inspection.signature.inputs}
    assert found == {
        "a": ("float64", (-1,), True),
        "scale": ("float64", (-1,), False),
        "far": ("bool", (-1,), False),
        "list": ("int64", (-1, -1), False),
    }
    assert [field.name for field in inspection.signature.parameters] == ["scale", "far", "list"]
    loaded, _, _ = load_version(tmp_path / "m", "1", trust="pickle")
    a = frame["a"].to_numpy()
    np.testing.assert_allclose(loaded.predict({"a": a}, "value"), 2 * a)
    np.testing.assert_allclose(loaded.predict({"a": a, "scale": np.full(5, 3.0)}, "value"), 3 * a)
    scale, far = np.array([1.0, 5.0, np.nan, 5.0, 1.0]), np.array([False, True, False, True, True])
    expected = a * np.nan_to_num(scale, nan=2.0) + 100 * far
    np.testing.assert_allclose(loaded.predict({"a": a, "scale": scale, "far": far}, "value"), expected)


@pytest.mark.parametrize("form", ["frame", "classes", "dict", "list", "series", "records"])
def test_answers_of_a_pyfunc_in_any_form(tmp_path, form):
    frame = FRAME[["a"]]
    mlflow.pyfunc.save_model(
        tmp_path / "m", python_model=Echo(form), signature=infer_signature(frame), pip_requirements=["numpy"]
    )
    _, inspection = find_backend(tmp_path / "m")
    assert (inspection.format, inspection.carries_code) == ("cloudpickle", True)
    loaded, _, _ = load_version(tmp_path / "m", "1", trust="pickle")
    p = 1 / (1 + np.exp(-frame["a"].to_numpy()))
    np.testing.assert_allclose(loaded.predict(columns(frame), "proba"), np.stack([1 - p, p], axis=1))
    if form in ("frame", "classes", "records"):
        assert loaded.classes == ("no", "yes")
        assert loaded.predict(columns(frame), "label").tolist() == np.where(p > 0.5, "yes", "no").tolist()
    if form in ("list", "series"):
        np.testing.assert_allclose(loaded.predict(columns(frame), "value"), p)


def test_models_from_code_and_code_paths_carry_code(tmp_path):
    script = tmp_path / "model.py"
    script.write_text(
        "import mlflow\nfrom mlflow.pyfunc import PythonModel\n"
        "class M(PythonModel):\n    def predict(self, context, model_input, params=None):\n"
        "        return model_input['a'] * 2\nmlflow.models.set_model(M())\n"
    )
    mlflow.pyfunc.save_model(
        tmp_path / "code", python_model=str(script), signature=infer_signature(FRAME[["a"]]), pip_requirements=["numpy"]
    )
    _, inspection = find_backend(tmp_path / "code")
    assert (inspection.format, inspection.carries_code) == ("code", True)
    loaded, _, _ = load_version(tmp_path / "code", "1", trust="pickle")
    np.testing.assert_allclose(loaded.predict(columns(FRAME[["a"]]), "value"), FRAME["a"] * 2)

    model = LogisticRegression().fit(FRAME[["a"]], LATE)
    mlflow.sklearn.save_model(
        model, tmp_path / "paths", code_paths=[str(script)], serialization_format="skops", pip_requirements=["numpy"]
    )
    _, inspection = find_backend(tmp_path / "paths")
    assert (inspection.format, inspection.carries_code) == ("code", True)


# --- the allow-list ------------------------------------------------------------------------------


def mlmodel(path: Path, flavors: dict[str, Any], **more: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors} | more))
    return path


@pytest.mark.parametrize(
    ("flavors", "format", "carries"),
    [
        ({"xgboost": {"model_class": "xgboost.sklearn.XGBClassifier", "data": "model.ubj"}}, "xgboost", False),
        ({"xgboost": {"model_class": "os.system"}}, "xgboost", True),
        ({"lightgbm": {"data": "model.lgb"}}, "lightgbm", False),
        ({"lightgbm": {"model_class": "lightgbm.sklearn.LGBMClassifier"}}, "cloudpickle", True),
        (
            {"lightgbm": {"model_class": "lightgbm.sklearn.LGBMClassifier", "serialization_format": "skops"}},
            "skops",
            False,
        ),
        ({"catboost": {"save_format": "cbm"}}, "catboost", False),
        ({"catboost": {"save_format": "python"}}, "catboost", True),
        ({"pytorch": {"model_data": "data"}}, "torch", True),
        ({"tensorflow": {}}, "tensorflow", True),
        ({"statsmodels": {}}, "pickle", True),
        ({"sklearn": {}}, "pickle", True),
        ({"transformers": {}}, "transformers", True),
        ({"brand_new": {}}, "brand_new", True),
    ],
)
def test_only_listed_formats_count_as_data(tmp_path, flavors, format, carries):
    (name,) = flavors
    plain = mlmodel(tmp_path / "m", flavors | {"python_function": {"loader_module": f"mlflow.{name}"}})
    inspection = BACKEND.inspect(plain)
    assert (inspection.format, inspection.carries_code) == (format, carries)
    # The same files behind a loader of somebody's own, or with code beside them, carry code.
    own = mlmodel(tmp_path / "own", flavors | {"python_function": {"loader_module": "evil.loader"}})
    assert BACKEND.inspect(own).carries_code
    outside = mlmodel(tmp_path / "outside", {name: flavors[name] | {"data": "../../model.bin"}})
    with pytest.raises(ModelFilesInvalid, match="outside"):
        BACKEND.inspect(outside)
    beside = mlmodel(tmp_path / "beside", {name: flavors[name] | {"code": "code"}})
    assert BACKEND.inspect(beside).carries_code
    inner = mlmodel(tmp_path / "inner", flavors | {"python_function": {"loader_module": f"mlflow.{name}", "data": "x"}})
    mlmodel(inner / "x", {"sklearn": {"serialization_format": "pickle"}})
    assert BACKEND.inspect(inner).carries_code


def test_a_missing_framework_says_what_to_install(tmp_path):
    path = mlmodel(
        tmp_path / "m",
        {"catboost": {"catboost_version": "1.2.8"}, "python_function": {"loader_module": "mlflow.catboost"}},
    )
    inspection = BACKEND.inspect(path)
    if not inspection.missing:
        pytest.skip("catboost is installed here")
    assert inspection.missing == ("catboost",)
    assert inspection.install == "pip install 'catboost==1.2.8'"
    with pytest.raises(PackageMissing, match=r"pip install 'catboost==1\.2\.8'"):
        load_version(path, "1")


def test_a_broken_mlmodel_is_one_clear_error(tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: [")
    with pytest.raises(ModelFilesInvalid, match="YAML"):
        BACKEND.inspect(tmp_path)
    (tmp_path / "MLmodel").write_text("a: 1")
    with pytest.raises(ModelFilesInvalid, match="no flavors"):
        BACKEND.inspect(tmp_path)
    (tmp_path / "MLmodel").write_text(json.dumps({"flavors": {"onnx": {}}, "signature": {"inputs": "["}}))
    with pytest.raises(ModelFilesInvalid, match="signature"):
        BACKEND.inspect(tmp_path)


# --- bare files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "carries"), [("skops", False), ("joblib", True), ("pkl", True)])
def test_bare_estimator_files(tmp_path, suffix, carries):
    import pickle

    import joblib
    import skops.io

    model = LogisticRegression().fit(FRAME[["a", "i"]], LATE)
    file = tmp_path / f"model.{suffix}"
    if suffix == "skops":
        skops.io.dump(model, file)
    elif suffix == "joblib":
        joblib.dump(model, file)
    else:
        file.write_bytes(pickle.dumps(model))
    for path in (file, tmp_path):
        _, inspection = find_backend(path)
        assert inspection.carries_code is carries
        loaded, _, _ = load_version(path, "1", trust="pickle" if carries else None)
        given = {name: FRAME[name].to_numpy() for name in ("a", "i")}
        np.testing.assert_allclose(loaded.predict(given, "proba"), model.predict_proba(FRAME[["a", "i"]]))


def test_what_a_pyfunc_may_answer():
    assert interpret(np.array([1, 2]), 2).label.tolist() == [1, 2]
    assert interpret(np.array(["a", "b"]), 2).numbers is None
    assert interpret(pd.DataFrame({"prediction": [1.5, 2.5]}), 2).numbers.tolist() == [1.5, 2.5]
    zipped = interpret({"output_label": np.array([1]), "output_probability": [{0: 0.25, 1: 0.75}]}, 1)
    assert zipped.classes == ("0", "1")
    assert zipped.proba.tolist() == [[0.25, 0.75]]
    assert interpret(pd.DataFrame({"y1": [1.0, 2.0], "y2": [3.0, 4.0]}), 2).numbers.shape == (2, 2)
    with pytest.raises(OutputUnavailable):
        interpret({"a": np.array([object()]), "b": np.array([object()])}, 1)
