"""What is read of an ONNX file before it is loaded, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlflow.onnx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.models import infer_signature
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from lepton_onnxruntime.graph import read_graph
from lepton_plugins.errors import ModelFilesInvalid

from .conftest import BACKEND, FRAME, THREE, X, graph_model, output, save, tensor_input


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
