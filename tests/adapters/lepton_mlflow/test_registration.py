"""Registering from a path: every framework, installed or not; all or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

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
