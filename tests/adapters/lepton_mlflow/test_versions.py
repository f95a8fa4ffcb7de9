"""Versions that others registered, in every way MLflow has."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lepton_plugins.errors import (
    DigestMismatch,
    InvalidInput,
    LabelAmbiguous,
    ModelNotFound,
    RegistryFailed,
    VersionNotFound,
)


@pytest.fixture
def model_directory(tmp_path, onnx_file) -> Path:
    from lepton_mlflow.layouts.frameworks import lay_out

    (tmp_path / "stranger").mkdir()
    lay_out(onnx_file, None).write(tmp_path / "stranger")
    return tmp_path / "stranger"


def test_versions_of_strangers_are_read_and_fetched(registry, client, model_name, model_directory, tmp_path):
    """From a run's artifacts (as a location and as runs:/), from a LoggedModel, from a copy, from plain files."""
    client.create_registered_model(model_name)
    location = None if registry.uri.startswith("http") else str(tmp_path / "artifacts")
    experiment = client.create_experiment(f"exp-{model_name}", artifact_location=location)
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(model_directory), "model")
    logged = client.create_logged_model(experiment, name="m")
    client.log_model_artifacts(logged.model_id, str(model_directory))
    client.finalize_logged_model(logged.model_id, "READY")

    client.create_model_version(model_name, f"{run.info.artifact_uri}/model", run.info.run_id, tags={"stage": "prod"})
    client.create_model_version(model_name, f"runs:/{run.info.run_id}/model", run.info.run_id)
    registered = registry.register(model_name, model_directory, framework=None, label="v3", metadata={})
    client.copy_model_version(registered.uri, model_name)
    client.set_registered_model_alias(model_name, "champion", "1")
    if location:
        client.create_model_version(model_name, model_directory.as_uri())

    versions = registry.list_versions(model_name)
    assert [version.version for version in versions] == ["1", "2", "3", "4", "5"][: len(versions)]
    assert len(versions) == (5 if location else 4)
    assert {version.framework for version in versions} == {"onnx"}
    assert all(version.signature == registered.signature for version in versions)
    assert [version.aliases for version in versions][:2] == [("champion",), ()]
    assert versions[0].metadata == {"stage": "prod"}
    assert [version.label for version in versions[:4]] == [None, None, "v3", None]
    assert registry.get_version(model_name, "@champion") == versions[0]
    digests = {registry.fetch(version, tmp_path / f"copy-{version.version}") for version in versions}
    assert digests == {registered.artifact_digest}


def test_what_is_not_there(registry, client, model_name, register):
    with pytest.raises(ModelNotFound):
        registry.list_versions("no-such-model")
    with pytest.raises(ModelNotFound):
        registry.get_version("no-such-model", "1")
    register("v1")
    for name in ("9", "v9", "@nobody"):
        with pytest.raises(VersionNotFound, match=r"Versions: 1 \(v1\)"):
            registry.get_version(model_name, name)


def test_two_versions_with_one_label_by_hand(registry, client, register):
    model = register("v1").model
    client.set_model_version_tag(model, register().version, "lepton.label", "v1")
    with pytest.raises(LabelAmbiguous, match="1, 2"):
        registry.get_version(model, "v1")


def test_changed_files_are_noticed_and_nothing_is_left(sqlite_uri, model_name, onnx_file, tmp_path):
    from lepton_mlflow.registry import MlflowRegistry

    registry = MlflowRegistry(sqlite_uri)
    version = registry.register(model_name, onnx_file, framework=None, label=None, metadata={})
    client = MlflowClient(sqlite_uri, sqlite_uri)
    stored = Path(client.get_model_version_download_uri(model_name, "1")) / "requirements.txt"
    stored.write_text(stored.read_text() + "evil\n")
    with pytest.raises(DigestMismatch):
        registry.fetch(version, tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []
    with pytest.raises(InvalidInput, match="empty"):
        registry.fetch(version, tmp_path)


def test_a_version_whose_files_are_gone_is_listed_all_the_same(
    sqlite_uri, model_name, onnx_file, tmp_path, monkeypatch
):
    from lepton_mlflow.registry import MlflowRegistry

    registry = MlflowRegistry(sqlite_uri)
    registry.register(model_name, onnx_file, framework=None, label="v1", metadata={})
    client = MlflowClient(sqlite_uri, sqlite_uri)
    shutil.rmtree(client.get_model_version_download_uri(model_name, "1"))
    told: list[str] = []
    # Not caplog: making the database's tables takes its handler away.
    monkeypatch.setattr("lepton_mlflow.model_files.logger.debug", lambda text, *facts, **_: told.append(text % facts))
    (found,) = MlflowRegistry(sqlite_uri).list_versions(model_name)
    assert (found.label, found.framework, found.flavors) == ("v1", "onnx", ())
    assert f"the files of version 1 of '{model_name}' are out of reach" in told
    with pytest.raises(RegistryFailed, match="download version 1"):
        registry.fetch(found, tmp_path / "copy")


@pytest.mark.long
def test_thousands_of_versions_are_listed_page_by_page(sqlite_uri, model_name, onnx_file):
    from lepton_mlflow.registry import MlflowRegistry

    registry = MlflowRegistry(sqlite_uri)
    registry.register(model_name, onnx_file, framework=None, label="first", metadata={})
    client = MlflowClient(sqlite_uri, sqlite_uri)
    source = client.get_model_version_download_uri(model_name, "1")
    _add_versions(sqlite_uri, model_name, source, 1200)
    start = time.monotonic()
    versions = registry.list_versions(model_name)
    assert [int(version.version) for version in versions] == list(range(1, 1202))
    assert versions[0].label == "first"
    assert versions[-1].signature is not None
    assert time.monotonic() - start < 30
    (summary,) = registry.list_models()
    assert (summary.versions, summary.latest) == (1201, "1201")


def _add_versions(uri: str, model: str, source: str, count: int) -> None:
    """Rows as MLflow writes them: through its API they would take a minute."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(model_versions)")]
        row = list(database.execute(f"SELECT {', '.join(columns)} FROM model_versions").fetchone())
        place = columns.index("version")
        database.executemany(
            f"INSERT INTO model_versions ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [[*row[:place], number, *row[place + 1 :]] for number in range(2, count + 2)],
        )
