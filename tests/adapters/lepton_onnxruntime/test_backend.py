"""The ONNX Runtime backend on models made by skl2onnx and by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.models import infer_signature
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from lepton_onnxruntime.backend import OnnxRuntimeBackend
from lepton_onnxruntime.graph import read_graph
from lepton_onnxruntime.model import providers
from lepton_plugins.errors import ModelFilesInvalid, OutputUnavailable, RequestInvalid
from lepton_plugins.routing.loading import find_backend, load_version

BACKEND = OnnxRuntimeBackend()
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(300, 3)).astype(np.float32)
THREE = np.array(["low", "mid", "high"])[np.digitize(X[:, 0], [-0.5, 0.5])]
FRAME = pd.DataFrame(X.astype(np.float64), columns=["a", "b", "c"])


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def graph_model(nodes, inputs, outputs, constants=(), **more) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", 17), *more.pop("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, **more)


def tensor_input(name="X", k=3):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", k])


def output(name, *shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, ["n", *shape])


# --- classifiers and regressors of scikit-learn --------------------------------------------------


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


# --- inputs --------------------------------------------------------------------------------------


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


# --- outputs of other exporters ------------------------------------------------------------------


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
    weights = RANDOM.normal(size=(3, width)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["X", "w"], ["z"]), helper.make_node(node, ["z"], [name])]
    model = BACKEND.load(
        save(
            graph_model(nodes, [tensor_input()], [output(name, width)], [numpy_helper.from_array(weights, "w")]),
            tmp_path / "model.onnx",
        )
    )
    np.testing.assert_allclose(model.predict({"X": X}, kind), expected(X @ weights), rtol=1e-4, atol=1e-6)


# --- what isn't loaded ---------------------------------------------------------------------------


def external(tmp_path: Path, location: str) -> Path:
    weight = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    model = graph_model([helper.make_node("MatMul", ["X", "w"], ["y"])], [tensor_input()], [output("y", 2)], [weight])
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def test_external_weights_inside_the_directory_load(tmp_path):
    file = external(tmp_path, "weights.bin")
    (tmp_path / "model" / "weights.bin").write_bytes(np.full((3, 2), 2, dtype=np.float32).tobytes())
    model = BACKEND.load(file)
    np.testing.assert_allclose(model.predict({"X": X}, "value"), X @ np.full((3, 2), 2, dtype=np.float32), rtol=1e-5)


@pytest.mark.parametrize("where", ["../secret.bin", "absolute", "link"])
def test_external_weights_outside_are_refused(tmp_path, where):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.zeros(6, dtype=np.float32).tobytes())
    file = external(tmp_path, {"absolute": str(secret), "link": "weights.bin"}.get(where, where))
    if where == "link":
        (tmp_path / "model" / "weights.bin").symlink_to(secret)
    for refuse in (BACKEND.inspect, BACKEND.load):
        with pytest.raises(ModelFilesInvalid, match="outside"):
            refuse(file)


def test_external_weights_hidden_in_a_branch_are_found(tmp_path):
    hidden = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w")
    hidden.ClearField("raw_data")
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="../../etc/passwd")
    then = helper.make_graph([helper.make_node("Constant", [], ["t"], value=hidden)], "t", [], [output("t", 2)])
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=then)
    flag = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    file = tmp_path / "model.onnx"
    file.write_bytes(graph_model([node], [flag], [output("y", 2)]).SerializeToString())
    with pytest.raises(ModelFilesInvalid, match="outside"):
        BACKEND.inspect(file)


def test_operators_of_a_native_library_are_refused_and_local_functions_are_not(tmp_path):
    node = helper.make_node("Secret", ["X"], ["y"], domain="com.acme")
    model = graph_model([node], [tensor_input()], [output("y", 3)], opsets=[helper.make_opsetid("com.acme", 1)])
    with pytest.raises(ModelFilesInvalid, match=r"com\.acme.*native library"):
        BACKEND.inspect(save(model, tmp_path / "native.onnx"))
    opset = helper.make_opsetid("", 17)
    body = [helper.make_node("Neg", ["x"], ["z"])]
    model.functions.append(helper.make_function("com.acme", "Secret", ["x"], ["z"], body, [opset]))
    loaded = BACKEND.load(save(model, tmp_path / "local.onnx"))
    np.testing.assert_allclose(loaded.predict({"X": X}, "value"), -X)


@pytest.mark.parametrize(
    "content", [b"", b"not onnx at all", b"\x08\x07", b"\xff" * 64, b"\x3a\x08\x0a\x06\x38\xff\xff\xff\xff\x7f"]
)
def test_what_is_not_onnx_is_one_clear_error(tmp_path, content):
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(ModelFilesInvalid):
        BACKEND.inspect(file)


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_never_worse(data, damaged):
    file, content = damaged
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(changed[: data.draw(st.integers(1, len(changed)))])
    try:
        BACKEND.inspect(file)
    except ModelFilesInvalid:
        pass


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    model = to_onnx(LogisticRegression().fit(X, THREE), X[:1])
    return tmp_path_factory.mktemp("damaged") / "model.onnx", model.SerializeToString()


def test_an_mlmodel_cannot_name_a_file_elsewhere(tmp_path):
    (tmp_path / "m").mkdir()
    save(to_onnx(LinearRegression().fit(X, X[:, 0]), X[:1]), tmp_path / "outside.onnx")
    (tmp_path / "m" / "MLmodel").write_text(json.dumps({"flavors": {"onnx": {"data": "../outside.onnx"}}}))
    with pytest.raises(ModelFilesInvalid, match="outside the model's directory"):
        BACKEND.load(tmp_path / "m")


def test_other_files_are_not_its_business(tmp_path):
    (tmp_path / "MLmodel").write_text(json.dumps({"flavors": {"sklearn": {}, "python_function": {}}}))
    assert BACKEND.inspect(tmp_path) is None
    assert BACKEND.inspect(tmp_path / "nothing") is None


# --- reading without loading ---------------------------------------------------------------------


def test_inspecting_and_loading_import_no_mlflow_and_inspecting_no_runtime(tmp_path):
    mlflow.onnx.save_model(
        to_onnx(LogisticRegression().fit(X, THREE), X[:1]),
        tmp_path / "m",
        signature=infer_signature(FRAME, THREE),
        pip_requirements=["numpy"],
    )
    script = """
import sys
from pathlib import Path
from lepton_onnxruntime.backend import OnnxRuntimeBackend
path = Path(sys.argv[1])
OnnxRuntimeBackend().inspect(path)
print([m for m in ("onnxruntime", "onnx", "mlflow", "pandas") if m in sys.modules])
OnnxRuntimeBackend().load(path)
print([m for m in ("onnx", "mlflow", "pandas", "sklearn", "scipy") if m in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m")], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[:2] == ["[]", "[]"]


def test_the_reader_agrees_with_the_onnx_package(tmp_path):
    """A forest: attributes with thousands of numbers, which are skipped."""
    fitted = RandomForestClassifier(n_estimators=30).fit(X, THREE)
    model = to_onnx(fitted, X[:1])
    facts = read_graph(save(model, tmp_path / "model.onnx"))
    assert [item.name for item in facts.inputs] == [item.name for item in model.graph.input]
    assert [item.name for item in facts.outputs] == [item.name for item in model.graph.output]
    assert facts.classes == ["high", "low", "mid"]
    assert facts.domains == {node.domain for node in model.graph.node}
    assert facts.custom_domains == ()
    assert list(facts.zip_maps) == ["output_probability"]


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
