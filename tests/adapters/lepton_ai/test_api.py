"""The first example that was ever written for Lepton runs as it stands."""

from __future__ import annotations

import pytest

from lepton_plugins.errors import PathMissing


@pytest.fixture
def saved_model(tmp_path):
    folder = tmp_path / "path" / "to" / "model"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x0fserving_default")
    return folder


def test_the_example_runs(monkeypatch, sqlite_uri, saved_model):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
    from lepton_ai.api import ModelRegistry

    registry = ModelRegistry()
    registry.register_model(
        model_name="my_model",
        model_version="v1",
        model_framework="tensorflow",
        model_path=str(saved_model),
        model_metadata={"description": "My first AI model"},
    )
    (version,) = registry.list_versions("my_model")
    assert (version.label, version.framework, version.description) == ("v1", "tensorflow", "My first AI model")


def test_its_own_path_is_not_there(monkeypatch, sqlite_uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
    from lepton_ai.api import ModelRegistry

    with pytest.raises(PathMissing, match="/path/to/model"):
        ModelRegistry().register_model(
            model_name="my_model",
            model_version="v1",
            model_framework="tensorflow",
            model_path="/path/to/model",
            model_metadata={"description": "My first AI model"},
        )


def test_it_is_an_alias():
    import lepton_ai.api
    import lepton_plugins.api

    assert lepton_ai.api.ModelRegistry is lepton_plugins.api.ModelRegistry
