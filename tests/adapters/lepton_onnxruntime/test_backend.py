"""The ONNX Runtime backend on models made by skl2onnx and by hand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import mlflow.onnx
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from mlflow.models import infer_signature
from onnx import helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from lepton_onnxruntime.model import providers
from lepton_plugins.errors import ModelFilesInvalid, OutputUnavailable, RequestInvalid
from lepton_plugins.routing.loading import find_backend, load_version

from .conftest import BACKEND, FRAME, THREE, X, graph_model, output, save, tensor_input


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("labels", ["strings", "integers"])
@pytest.mark.parametrize("estimator", [LogisticRegression, GaussianNB, RandomForestClassifier])
def test_a_classifier_gives_probabilities_labels_and_its_classes(tmp_path, estimator, labels, zipmap):
    target = THREE if labels == "strings" else np.digitize(X[:, 0], [-0.5, 0.5]) * 10
    fitted = (estimator(n_estimators=5) if estimator is RandomForestClassifier else estimator()).fit(X, target)
    file = save(to_onnx(fitted, X[:1], options={"zipmap": zipmap}), tmp_path / "model.onnx")
    model = BACKEND.load(file)
    assert model.classes == tuple(str(name) for name in fitted.classes_)
    given = {model.signature.inputs[0].name: X[:50]}
    np.testing.assert_allclose(model.predict(given, "proba"), fitted.predict_proba(X[:50]), atol=1e-5)
    assert (model.predict(given, "label") == fitted.predict(X[:50])).mean() > 0.97
    with pytest.raises(OutputUnavailable, match="3 classes"):
        model.predict(given, "score")
    with pytest.raises(OutputUnavailable, match="probabilities"):
        model.predict(given, "value")


def test_a_binary_classifiers_score_is_its_second_class(tmp_path):
    fitted = LogisticRegression().fit(X, X[:, 0] > 0)
    model = BACKEND.load(save(to_onnx(fitted, X[:1]), tmp_path / "model.onnx"))
    given = {model.signature.inputs[0].name: X}
    np.testing.assert_allclose(model.predict(given, "score"), fitted.predict_proba(X)[:, 1], atol=1e-5)


def test_a_regressor_gives_values_and_scores_but_no_labels(tmp_path):
    fitted = LinearRegression().fit(X, 3 * X[:, 0] + 20)
    model = BACKEND.load(save(to_onnx(fitted, X[:1]), tmp_path / "model.onnx"))
    given = {model.signature.inputs[0].name: X}
    for kind in ("value", "score"):
        values = model.predict(given, kind)
        assert values.shape == (300,)
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, fitted.predict(X), rtol=1e-4)
    for kind in ("proba", "label"):
        with pytest.raises(OutputUnavailable):
            model.predict(given, kind)


def test_several_targets_are_several_values(tmp_path):
    fitted = LinearRegression().fit(X, X[:, :2])
    model = BACKEND.load(save(to_onnx(fitted, X[:1]), tmp_path / "model.onnx"))
    assert model.predict({model.signature.inputs[0].name: X}, "value").shape == (300, 2)


def test_columns_are_stacked_in_the_signatures_order(tmp_path):
    fitted = LogisticRegression().fit(X, THREE)
    mlflow.onnx.save_model(
        to_onnx(fitted, X[:1]), tmp_path / "m", signature=infer_signature(FRAME, THREE), pip_requirements=["numpy"]
    )
    name, inspection = find_backend(tmp_path / "m")
    assert (name, inspection.format, inspection.carries_code) == ("onnxruntime", "onnx", False)
    assert inspection.signature.layout == "columns"
    assert [field.dtype for field in inspection.signature.inputs] == ["float64"] * 3
    model = BACKEND.load(tmp_path / "m")
    shuffled = {name: FRAME[name].to_numpy() for name in ("c", "a", "b")}
    np.testing.assert_allclose(model.predict(shuffled, "proba"), fitted.predict_proba(X), atol=1e-5)
    with pytest.raises(RequestInvalid, match="'b'"):
        model.predict({"a": X[:, 0], "c": X[:, 2]}, "proba")


def test_an_unnamed_tensor_signature_feeds_the_only_input(tmp_path):
    fitted = LogisticRegression().fit(X, THREE)
    mlflow.onnx.save_model(
        to_onnx(fitted, X[:1]), tmp_path / "m", signature=infer_signature(X, THREE), pip_requirements=["numpy"]
    )
    model = BACKEND.load(tmp_path / "m")
    assert model.signature.layout == "tensors"
    assert model.signature.input_names == ("input",)
    np.testing.assert_allclose(model.predict({"input": X}, "proba"), fitted.predict_proba(X), atol=1e-5)


def test_one_input_for_each_column_strings_included(tmp_path):
    frame = pd.DataFrame({"a": X[:, 0], "kind": np.where(X[:, 1] > 0, "x", "y")})
    pipeline = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough"), LogisticRegression()
    ).fit(frame, THREE)
    types = [("a", FloatTensorType([None, 1])), ("kind", StringTensorType([None, 1]))]
    converted = to_onnx(pipeline, initial_types=types, options={"zipmap": False})
    for path, signature in (("with", infer_signature(frame, THREE)), ("without", None)):
        mlflow.onnx.save_model(converted, tmp_path / path, signature=signature, pip_requirements=["numpy"])
        model = BACKEND.load(tmp_path / path)
        assert model.signature.layout == "columns"
        given = {"a": frame["a"].to_numpy(), "kind": frame["kind"].to_numpy(dtype=object)}
        np.testing.assert_allclose(model.predict(given, "proba"), pipeline.predict_proba(frame), atol=1e-5)
        texts = {"a": frame["a"].to_numpy(dtype=np.float64), "kind": frame["kind"].to_numpy(dtype="U")}
        np.testing.assert_allclose(model.predict(texts, "proba"), pipeline.predict_proba(frame), atol=1e-5)


def test_a_signature_that_the_graph_contradicts_is_said_when_loading(tmp_path):
    fitted = LogisticRegression().fit(X, THREE)
    mlflow.onnx.save_model(
        to_onnx(fitted, X[:1]),
        tmp_path / "m",
        signature=infer_signature(FRAME[["a", "b"]], THREE),
        pip_requirements=["numpy"],
    )
    with pytest.raises(ModelFilesInvalid, match="2 columns"):
        BACKEND.load(tmp_path / "m")
    nodes = [helper.make_node("Add", ["p", "q"], ["y"])]
    two = graph_model(nodes, [tensor_input("p", 1), tensor_input("q", 1)], [output("y", 1)])
    mlflow.onnx.save_model(
        two, tmp_path / "two", signature=infer_signature(FRAME[["a", "b"]], THREE), pip_requirements=["numpy"]
    )
    with pytest.raises(ModelFilesInvalid, match="p, q"):
        BACKEND.load(tmp_path / "two")


@pytest.mark.parametrize(
    ("node", "name", "width", "kind", "expected"),
    [
        ("Softmax", "anything", 3, "proba", lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)),
        ("Identity", "logits", 3, "proba", lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)),
        ("Identity", "logits", 3, "label", lambda z: z.argmax(axis=1)),
        ("Sigmoid", "out", 1, "proba", lambda z: np.hstack([1 - 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(-z))])),
        ("Identity", "logits", 1, "proba", lambda z: np.hstack([1 - 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(-z))])),
        ("Identity", "logits", 1, "label", lambda z: (z[:, 0] > 0).astype(int)),
        ("Identity", "logits", 2, "score", lambda z: z[:, 1] - z[:, 0]),
        ("Identity", "scores", 1, "score", lambda z: z[:, 0]),
        ("Identity", "y", 1, "value", lambda z: z[:, 0]),
    ],
)
def test_outputs_are_known_by_name_or_operator(tmp_path, node, name, width, kind, expected):
    weights = np.random.default_rng(1).normal(size=(3, width)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["X", "w"], ["z"]), helper.make_node(node, ["z"], [name])]
    model = BACKEND.load(
        save(
            graph_model(nodes, [tensor_input()], [output(name, width)], [numpy_helper.from_array(weights, "w")]),
            tmp_path / "model.onnx",
        )
    )
    np.testing.assert_allclose(model.predict({"X": X}, kind), expected(X @ weights), rtol=1e-4, atol=1e-6)


def test_threads_share_a_model(tmp_path):
    fitted = LogisticRegression().fit(X, THREE)
    model, _, _ = load_version(save(to_onnx(fitted, X[:1]), tmp_path / "model.onnx"), "1", threads=2)
    expected = fitted.predict_proba(X)

    def ask(start: int) -> None:
        for _ in range(50):
            values = model.predict({"X": X[start : start + 20]}, "proba")
            np.testing.assert_allclose(values, expected[start : start + 20], atol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(0, 280, 20)))


BOTH = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("available", "gpu", "expected"),
    [
        (["TensorrtExecutionProvider", *BOTH], None, BOTH),
        (BOTH, True, BOTH),
        (BOTH, False, BOTH[1:]),
        (BOTH[1:], None, BOTH[1:]),
        (BOTH[1:], False, BOTH[1:]),
    ],
)
def test_where_a_version_runs(available, gpu, expected, caplog):
    assert providers(available, gpu) == expected
    assert not caplog.records


def test_a_gpu_that_is_not_there_is_told(tmp_path, caplog):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    onnx.save(to_onnx(LogisticRegression().fit(X, THREE), X[:1]), tmp_path / "model.onnx")
    model, _, _ = load_version(tmp_path, "1", gpu=True)
    assert model._session.get_providers() == ["CPUExecutionProvider"]
    assert "has no CUDA provider (found" in caplog.text


def test_on_a_gpu_and_beside_it(tmp_path):
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu and a GPU")
    onnx.save(to_onnx(LogisticRegression().fit(X, THREE), X[:1]), tmp_path / "model.onnx")
    there, here = (load_version(tmp_path, "1", gpu=gpu)[0] for gpu in (True, False))
    assert there._session.get_providers()[0] == "CUDAExecutionProvider"
    assert here._session.get_providers() == ["CPUExecutionProvider"]
    columns = {"X": X[:20]}
    np.testing.assert_allclose(there.predict(columns, "proba"), here.predict(columns, "proba"), atol=1e-4)
