"""Registering from a path: every framework, installed or not; all or nothing."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from lepton_mlflow.layouts.frameworks import FRAMEWORKS, lay_out
from lepton_plugins.canonical import digest_tree
from lepton_plugins.errors import (
    FrameworkMismatch,
    FrameworkUnclear,
    InvalidInput,
    LabelTaken,
    PathMissing,
    RecordTooLong,
    RegistryFailed,
    UnknownFramework,
)


@pytest.fixture
def client(registry) -> MlflowClient:
    return MlflowClient(registry.uri, registry.uri)


@pytest.fixture
def saved_model(tmp_path) -> Path:
    """A SavedModel directory as TensorFlow writes it, as far as can be seen without TensorFlow."""
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x0fserving_default")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"data")
    return folder


def test_the_version_says_what_was_registered(registry, client, model_name, onnx_file):
    version = registry.register(
        model_name, onnx_file, framework=None, label="v1", metadata={"description": "My first AI model", "team": "air"}
    )
    assert (version.model, version.version, version.label, version.framework) == (model_name, "1", "v1", "onnx")
    assert version.uri == f"models:/{model_name}/1"
    assert set(version.flavors) == {"onnx", "python_function"}
    assert version.metadata == {"description": "My first AI model", "team": "air"}
    assert version.description == "My first AI model"
    assert version.signature.layout == "tensors"
    assert [(field.name, field.dtype, field.shape) for field in version.signature.inputs] == [("X", "float32", (-1, 3))]
    assert [field.name for field in version.signature.outputs] == ["label", "probabilities"]
    tags = client.get_model_version(model_name, "1").tags
    assert tags["lepton.label"] == "v1"
    assert tags["lepton.meta.team"] == "air"
    assert registry.get_version(model_name, "v1") == version


def test_the_same_files_have_the_same_digest(registry, model_name, onnx_file, tmp_path):
    first, second = (
        registry.register(model_name, onnx_file, framework="onnx", label=None, metadata={}) for _ in range(2)
    )
    assert first.artifact_digest == second.artifact_digest
    assert registry.fetch(first, tmp_path / "copy") == first.artifact_digest == digest_tree(tmp_path / "copy")


@pytest.mark.parametrize("file", ["model.onnx", "model.pkl", "model.joblib", "small.joblib", "model.skops"])
def test_mlflows_own_users_can_load_it(sqlite_uri, model_name, model_folder, file):
    """In another process, without Lepton, by MLflow's own URI."""
    from lepton_mlflow.registry import MlflowRegistry

    registry = MlflowRegistry(sqlite_uri)
    version = registry.register(model_name, model_folder / file, framework=None, label=None, metadata={})
    folder = model_folder.parent / f"fetched-{file}"
    registry.fetch(version, folder)
    import mlflow

    model = mlflow.pyfunc.load_model(str(folder))
    rows = np.array([[0.9, 0.5, 0.5], [0.1, 0.5, 0.5]], dtype="float32")
    answer = model.predict(rows)
    labels = answer["label"] if isinstance(answer, dict) else answer
    assert list(labels) == [1, 0]


def test_mlflow_loads_it_by_its_uri(mlflow_server, model_name, onnx_file):
    from lepton_mlflow.registry import MlflowRegistry

    registry = MlflowRegistry(mlflow_server)
    code = (
        "import mlflow, numpy, sys; mlflow.set_tracking_uri(sys.argv[1]); "
        "model = mlflow.pyfunc.load_model(sys.argv[2]); "
        "print(model.predict({'X': numpy.ones((1, 3), 'float32')})['label'], 'lepton_mlflow' in sys.modules)"
    )
    version = registry.register(model_name, onnx_file, framework=None, label=None, metadata={})
    done = subprocess.run(
        [sys.executable, "-c", code, registry.uri, version.uri], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[1]", "False"]


def test_a_framework_that_is_not_installed_is_registered_all_the_same(registry, model_name, saved_model, tmp_path):
    version = registry.register(model_name, saved_model, framework="tensorflow", label=None, metadata={})
    assert version.framework == "tensorflow"
    registry.fetch(version, tmp_path / "copy")
    flavors = yaml.safe_load((tmp_path / "copy" / "MLmodel").read_text())["flavors"]
    assert flavors["tensorflow"]["signature_def_key"] == "serving_default"
    assert (tmp_path / "copy" / "tfmodel" / "variables" / "variables.index").read_bytes() == b"index"
    from lepton_mlflow.backend import PyfuncBackend

    inspection = PyfuncBackend().inspect(tmp_path / "copy")
    assert "tensorflow" in inspection.missing
    assert "tensorflow" in inspection.install


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


def test_mlflow_model_directories_are_kept_as_they_are(registry, model_name, tmp_path):
    import mlflow
    from sklearn.dummy import DummyRegressor

    rows = np.arange(6.0).reshape(3, 2)
    model = DummyRegressor().fit(rows, rows[:, 0])
    signature = mlflow.models.infer_signature(rows, model.predict(rows))
    mlflow.sklearn.save_model(
        model,
        tmp_path / "model",
        serialization_format="cloudpickle",
        signature=signature,
        pip_requirements=["scikit-learn"],
    )
    version = registry.register(model_name, tmp_path / "model", framework=None, label=None, metadata={})
    assert version.framework == "sklearn"
    assert version.signature is not None
    registry.fetch(version, tmp_path / "copy")
    names = sorted(path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*"))
    assert names == sorted(path.relative_to(tmp_path / "model") for path in (tmp_path / "model").rglob("*"))
    assert version.artifact_digest == digest_tree(tmp_path / "model")
    with pytest.raises(FrameworkMismatch, match="flavors"):
        registry.register(model_name, tmp_path / "model", framework="torch", label=None, metadata={})


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


# --- what is refused, before anything is written -------------------------------------------------


def test_refusals_write_nothing(registry, client, model_name, onnx_file, tmp_path):
    (tmp_path / "what.bin").write_bytes(b"?")
    (tmp_path / "list.pkl").write_bytes(b"\x80\x04]\x94.")
    (tmp_path / "bad.onnx").write_bytes(b"this is no graph")
    (tmp_path / "empty").mkdir()
    refused = [
        (PathMissing, tmp_path / "missing", None, None, {}),
        (UnknownFramework, onnx_file, "onyx", None, {}),
        (FrameworkUnclear, tmp_path / "what.bin", None, None, {}),
        (FrameworkUnclear, tmp_path / "list.pkl", None, None, {}),
        (FrameworkUnclear, tmp_path / "empty", None, None, {}),
        (FrameworkMismatch, tmp_path / "bad.onnx", None, None, {}),
        (FrameworkMismatch, tmp_path / "empty", "onnx", None, {}),
        (FrameworkMismatch, onnx_file, "pyfunc", None, {}),
        (InvalidInput, onnx_file, None, "a'b", {}),
        (InvalidInput, onnx_file, None, "3", {}),
        (InvalidInput, onnx_file, None, None, {"a=b": "c"}),
        (RecordTooLong, onnx_file, None, None, {"note": "x" * 70_000}),
    ]
    for error, path, framework, label, metadata in refused:
        with pytest.raises(error):
            registry.register(model_name, path, framework=framework, label=label, metadata=metadata)
    with pytest.raises(InvalidInput, match="without '/'"):
        registry.register(f"{model_name}/x", onnx_file, framework=None, label=None, metadata={})
    assert not client.search_registered_models(f"name='{model_name}'")
    assert client.get_experiment_by_name(model_name) is None


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


def test_the_same_label_twice_is_refused(registry, client, register):
    version = register("v1")
    with pytest.raises(LabelTaken, match="version 1"):
        register("v1")
    assert len(client.search_model_versions(f"name='{version.model}'")) == 1
    assert register("v2").version == "2"


def test_who_made_the_model_and_loses_the_label_leaves_the_winners_version(
    registry_uri, model_name, onnx_file, monkeypatch
):
    from mlflow import MlflowClient

    from lepton_mlflow.registry import MlflowRegistry

    upload = MlflowClient.log_model_artifacts

    def overtaken(client, *given):
        monkeypatch.setattr(MlflowClient, "log_model_artifacts", upload)
        MlflowRegistry(registry_uri).register(model_name, onnx_file, framework=None, label="v1", metadata={})
        upload(client, *given)

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", overtaken)
    with pytest.raises(LabelTaken):
        MlflowRegistry(registry_uri).register(model_name, onnx_file, framework=None, label="v1", metadata={})
    registry = MlflowRegistry(registry_uri)
    (left,) = registry.list_versions(model_name)
    assert (left.version, left.label) == ("1", "v1")
    registry.register(model_name, onnx_file, framework=None, label="v2", metadata={})


def test_of_two_registrations_with_one_label_at_once_one_wins(registry_uri, model_name, onnx_file):
    from lepton_mlflow.registry import MlflowRegistry

    def once(_: int) -> str:
        try:
            registry = MlflowRegistry(registry_uri)
            return registry.register(model_name, onnx_file, framework=None, label="v1", metadata={}).version
        except LabelTaken:
            return "taken"

    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(once, range(3)))
    assert sorted(outcomes)[1:] == ["taken", "taken"]
    registry = MlflowRegistry(registry_uri)
    assert [version.label for version in registry.list_versions(model_name)] == ["v1"]
    assert registry.get_version(model_name, "v1").artifact_digest


def test_registering_at_a_server_leaves_the_process_setting_alone(mlflow_server, model_name, onnx_file, monkeypatch):
    """Another thread may be listing the environment, in which MLflow keeps it."""
    from lepton_mlflow.registry import MlflowRegistry

    seen = []
    create = MlflowClient.create_model_version

    def look(*args, **kwargs):
        seen.append((mlflow.is_tracking_uri_set(), os.environ.get("MLFLOW_TRACKING_URI")))
        return create(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_model_version", look)
    before = (mlflow.is_tracking_uri_set(), os.environ.get("MLFLOW_TRACKING_URI"))
    MlflowRegistry(mlflow_server).register(model_name, onnx_file, framework=None, label=None, metadata={})
    assert seen == [before]


def test_a_later_failure_leaves_nothing_behind(registry, client, model_name, onnx_file, monkeypatch):
    """As when the server goes away between the files and the version."""

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(MlflowClient, "create_model_version", fail)
    with pytest.raises(RegistryFailed, match="disk full"):
        registry.register(model_name, onnx_file, framework=None, label="v1", metadata={})
    monkeypatch.undo()
    assert not client.search_registered_models(f"name='{model_name}'")
    assert client.get_experiment_by_name(model_name) is None
    assert registry.register(model_name, onnx_file, framework=None, label="v1", metadata={}).version == "1"
