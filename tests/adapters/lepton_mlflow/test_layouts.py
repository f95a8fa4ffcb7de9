"""What a path holds is told by its bytes, and laid out where MLflow's loaders look."""

from __future__ import annotations

import pickle
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_mlflow.layouts.frameworks import FRAMEWORKS, lay_out
from lepton_plugins.errors import (
    FrameworkMismatch,
    UnknownFramework,
)


@pytest.mark.parametrize(
    ("name", "content", "framework", "flavor", "place"),
    [
        ("net.pt", b"PK\x03\x04", "torch", "pytorch", "data/model.pth"),
        ("net.pt2", b"PK\x03\x04", "torch", "pytorch", "data/model.pt2"),
        ("net.keras", b"PK\x03\x04", "tensorflow", "tensorflow", "data/model.keras"),
        ("net.h5", b"\x89HDF", "tensorflow", "tensorflow", "data/model.h5"),
        ("trees.ubj", b"{", "xgboost", "xgboost", "model.ubj"),
        ("trees.json", b'{"learner": {}}', "xgboost", "xgboost", "model.json"),
        ("trees.txt", b"tree\nversion=v4\n", "lightgbm", "lightgbm", "model.lgb"),
        ("trees.cbm", b"CBM1", "catboost", "catboost", "model.cb"),
    ],
)
def test_each_framework_lies_where_mlflows_loader_looks(tmp_path, name, content, framework, flavor, place):
    """Without a registry: what is written, and that the framework is told from the files alone."""
    (tmp_path / name).write_bytes(content)
    layout = lay_out(tmp_path / name, None)
    assert layout.framework == framework
    layout.write(tmp_path / "out")
    mlmodel = yaml.safe_load((tmp_path / "out" / "MLmodel").read_text())
    assert {flavor, "python_function"} == set(mlmodel["flavors"])
    assert mlmodel["flavors"]["python_function"]["loader_module"] == f"mlflow.{flavor}"
    assert (tmp_path / "out" / place).read_bytes() == content
    assert (tmp_path / "out" / "requirements.txt").read_text().startswith("mlflow==")
    from mlflow.models import Model

    assert Model.load(str(tmp_path / "out")).flavors == mlmodel["flavors"]


def test_onnx_with_external_data(tmp_path, model_folder):
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.arange(3000, dtype="float32").reshape(3, 1000), "W")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["Y"])],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["n", 1000])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder = tmp_path / "external"
    folder.mkdir()
    onnx.save_model(model, str(folder / "net.onnx"), save_as_external_data=True, location="net.weights")
    (folder / "notes.md").write_text("not part of the model")
    for path in (folder, folder / "net.onnx"):
        target = tmp_path / f"out-{path.name}"
        layout = lay_out(path, None)
        layout.write(target)
        assert sorted(layout.files) == ["model.onnx", "net.weights"]
        session = onnxruntime.InferenceSession(str(target / "model.onnx"))
        assert session.run(None, {"X": np.ones((2, 3), "float32")})[0].shape == (2, 1000)


@pytest.mark.parametrize(
    ("name", "content", "framework", "said"),
    [
        ("garbage.pkl", b"hello world", "sklearn", "a text file ('hello world')"),
        ("garbage.pkl", b"hello world", None, "a text file"),
        ("readme.txt", b"# Read me\n\nFirst.\n", "sklearn", "a text file"),
        ("model.pkl", b"", "sklearn", "an empty file"),
        ("model.pkl", b"x" * 100, "sklearn", "a text file"),
        ("model.pkl", b"\x80\x04\x95\x10", "sklearn", "a pickle"),
        ("model.joblib", b"\x78\x9cnothing that zlib wrote", None, "a file that starts with the bytes 78 9c"),
        ("model.joblib", b"\x1f\x8b\x08\x00", None, "a file that starts with"),
        ("model.skops", b"\x80\x04]\x94.", None, "a pickle"),
        ("readme.txt", b"# Read me", "torch", "a text file"),
        ("net.pt", b"", None, "an empty file"),
        ("net.keras", b"no archive", None, "a text file"),
        ("net.h5", b"PK\x03\x04", None, "a zip archive"),
        ("trees.json", b'{"some": "thing"}', "xgboost", "a text file"),
        ("trees.ubj", b"\x80\x04]\x94.", None, "a pickle"),
        ("readme.txt", b"# Read me", "xgboost", "a text file"),
        ("readme.txt", b"# Read me", "lightgbm", "a text file"),
        ("trees.cbm", b"# Read me", None, "a text file"),
        ("x.onnx", b"x" * 100, None, "a text file"),
        ("zero.onnx", b"\x00" * 100, None, "a file that starts with"),
        ("empty.onnx", b"", None, "an empty file"),
    ],
)
def test_a_file_that_the_framework_never_wrote_is_refused(tmp_path, name, content, framework, said):
    """Told by its bytes, with the framework installed or not."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FrameworkMismatch) as refused:
        lay_out(tmp_path / name, framework)
    assert f"found {said}" in str(refused.value)


@pytest.mark.parametrize("framework", ["sklearn", "torch", "xgboost", "lightgbm", "catboost", "tensorflow"])
def test_an_onnx_file_is_no_model_of_another_framework(onnx_file, framework):
    with pytest.raises(FrameworkMismatch, match="found an ONNX graph"):
        lay_out(onnx_file, framework)


def test_folders_that_hold_no_model_are_refused(tmp_path, saved_model, model_folder):
    for content in (b"", b"hello world", b"\x08\x01"):
        (saved_model / "saved_model.pb").write_bytes(content)
        with pytest.raises(FrameworkMismatch, match="a SavedModel's graph"):
            lay_out(saved_model, "tensorflow")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "MLmodel").write_text("flavors: {}\n")
    with pytest.raises(FrameworkMismatch, match="without any flavor"):
        lay_out(tmp_path / "none", None)


@pytest.mark.parametrize(
    ("name", "entry", "fits"),
    [
        ("net.pt", "net/data.pkl", True),
        ("net.pth", "net/constants.pkl", True),
        ("net.pt2", "serialized_exported_program.json", True),
        ("net.pt", "words.txt", False),
        ("model.skops", "schema.json", True),
        ("model.skops", "words.txt", False),
    ],
)
def test_an_archive_is_told_by_its_entries(tmp_path, name, entry, fits):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr(entry, "{}")
    if fits:
        assert lay_out(tmp_path / name, None).files
    else:
        with pytest.raises(FrameworkMismatch, match="a zip archive"):
            lay_out(tmp_path / name, None)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_any_protocol_is_one(tmp_path, model_folder, protocol):
    model = pickle.loads((model_folder / "model.pkl").read_bytes())
    (tmp_path / "model.pkl").write_bytes(pickle.dumps([model, np.zeros(200_000)], protocol))
    assert lay_out(tmp_path / "model.pkl", "sklearn").framework == "sklearn"


@pytest.mark.parametrize("compress", [0, 1, 9, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_what_joblib_wrote_is_taken_however_it_is_compressed(tmp_path, model_folder, compress):
    import joblib

    model = pickle.loads((model_folder / "model.pkl").read_bytes())
    joblib.dump([model, np.random.default_rng(0).random(300_000)], tmp_path / "model.joblib", compress=compress)
    assert lay_out(tmp_path / "model.joblib", None).framework == "sklearn"


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_no_bytes_make_the_look_at_a_file_fail(content):
    with tempfile.TemporaryDirectory() as folder:
        for name, framework in (("a.pkl", "sklearn"), ("a.skops", "sklearn"), ("a.pt", "torch"), ("a.xgb", "xgboost")):
            path = Path(folder) / name
            path.write_bytes(content)
            with suppress(FrameworkMismatch):
                assert lay_out(path, framework).files


def test_an_unknown_framework_names_the_nearest_one(onnx_file):
    with pytest.raises(UnknownFramework, match="Did you mean 'onnx'"):
        lay_out(onnx_file, "onxn")
    assert all(lay_out.__module__ and framework.stores for framework in FRAMEWORKS.values())
