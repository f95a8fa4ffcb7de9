"""Registries that refuse or don't answer: one clear error, soon, and nothing half-written."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.errors import InvalidInput, RegistryForbidden, RegistryReadOnly, RegistryUnreachable


def _refused_writes(registry, version, report_of, plan_of, activation_of, onnx_file):
    plan, files = plan_of(version.model)
    return [
        lambda: registry.register(version.model, onnx_file, framework=None, label="v2", metadata={}),
        lambda: registry.save_report(report_of(version), {}),
        lambda: registry.save_plan(plan, files, ""),
        lambda: registry.activate(activation_of(plan, 1), None, force=False),
        lambda: registry.purge(version.model),
    ]


def _rows(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as open_database:
        tables = [row[0] for row in open_database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        return {table: open_database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables}


def test_a_database_opened_read_only(sqlite_uri, onnx_file, report_of, plan_of, activation_of, tmp_path, capfd):
    version = MlflowRegistry(sqlite_uri).register("flights", onnx_file, framework=None, label="v1", metadata={})
    file = Path(sqlite_uri.removeprefix("sqlite:///"))
    registry = MlflowRegistry(f"sqlite:///file:{file}?mode=ro&uri=true")
    assert registry.get_version("flights", "v1") == version
    assert registry.fetch(version, tmp_path / "copy") == version.artifact_digest
    assert registry.get_report("flights", "1") is None
    assert registry.status().writable is False
    before = _rows(file)
    capfd.readouterr()
    for write in _refused_writes(registry, version, report_of, plan_of, activation_of, onnx_file):
        with pytest.raises(RegistryReadOnly, match="permission denied"):
            write()
    assert _rows(file) == before
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture(scope="module")
def guarded(start_mlflow_server, mlflow_template, tmp_path_factory, onnx_file, report_of):
    """A server with MLflow's basic auth, on which bob may only read. Its URI, its database, what is there."""
    pytest.importorskip("flask_wtf", reason="MLflow's basic auth needs Flask-WTF (mlflow[auth])")
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "filled.db"
    shutil.copyfile(mlflow_template, file)
    registry = MlflowRegistry(f"sqlite:///{file}")
    version = registry.register("flights", onnx_file, framework=None, label="v1", metadata={})
    report = registry.save_report(report_of(version), {})
    # A model without an experiment of its name: bob might make that one himself.
    MlflowClient(registry.uri, registry.uri).copy_model_version(version.uri, "other")
    _add_bob(folder / "auth.db")
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{folder}/auth.db\nadmin_username = admin\nadmin_password = correct-horse-9\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "s" * 32}
    options = ("--app-name", "basic-auth")
    with start_mlflow_server(folder / "server", *options, env=env, database=file) as uri:
        yield uri, folder / "server" / "mlflow.db", registry.get_version("flights", "v1"), report


def _add_bob(file: Path) -> None:
    """Into MLflow's own table of users; with one round of hashing, as MLflow hashes at every request."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
    from werkzeug.security import generate_password_hash

    store = SqlAlchemyStore()
    store.init_db(f"sqlite:///{file}")
    store.create_user("bob", "battery-staple-9")
    store.engine.dispose()
    with closing(sqlite3.connect(file)) as database, database:
        cheap = generate_password_hash("battery-staple-9", "pbkdf2:sha256:1")
        database.execute("UPDATE users SET password_hash = ? WHERE username = 'bob'", (cheap,))


def _log_in(monkeypatch, password: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def test_a_server_that_lets_one_only_read(guarded, monkeypatch, onnx_file, report_of, plan_of, activation_of, tmp_path):
    uri, database, version, report = guarded
    _log_in(monkeypatch, "battery-staple-9")
    registry = MlflowRegistry(uri)
    assert registry.status().reachable
    assert registry.get_version("flights", "v1") == version
    assert registry.get_report("flights", "v1") == report
    assert registry.fetch(version, tmp_path / "copy") == version.artifact_digest
    before = _rows(database)
    other = version.model_copy(update={"model": "other"})
    writes = _refused_writes(registry, version, report_of, plan_of, activation_of, onnx_file)
    writes += _refused_writes(registry, other, report_of, plan_of, activation_of, onnx_file)[:2]
    for write in writes:
        with pytest.raises(RegistryReadOnly, match="permission denied"):
            write()
    assert _rows(database) == before


def test_a_wrong_password_is_said(guarded, monkeypatch):
    uri, *_ = guarded
    _log_in(monkeypatch, "wrong")
    with pytest.raises(RegistryForbidden, match="MLFLOW_TRACKING_USERNAME"):
        MlflowRegistry(uri).list_models()
    assert "not authenticated" in MlflowRegistry(uri).status().detail


def test_a_server_that_is_not_there_is_said_within_seconds(capfd, caplog):
    start = time.monotonic()
    with pytest.raises(RegistryUnreachable, match="Connection refused"):
        MlflowRegistry("http://127.0.0.1:9").list_models()
    status = MlflowRegistry("http://127.0.0.1:9").status()
    assert not status.reachable
    assert time.monotonic() - start < 8
    assert "Traceback" not in capfd.readouterr().err
    assert not [record for record in caplog.records if "Retrying" in record.getMessage()], "no line for each retry"


@pytest.mark.long
def test_a_server_that_goes_away_is_said_within_seconds(start_mlflow_server, tmp_path):
    with start_mlflow_server(tmp_path / "server") as uri:
        registry = MlflowRegistry(uri)
        assert registry.list_models() == []
    start = time.monotonic()
    with pytest.raises(RegistryUnreachable):
        registry.list_models()
    assert time.monotonic() - start < 20


def test_a_database_that_is_not_there_is_not_made_by_reading(tmp_path):
    registry = MlflowRegistry(f"sqlite:///{tmp_path}/typo.db")
    with pytest.raises(RegistryUnreachable, match="no database"):
        registry.list_models()
    assert not (tmp_path / "typo.db").exists()
    with pytest.raises(RegistryUnreachable, match="no folder"):
        MlflowRegistry(f"sqlite:///{tmp_path}/nowhere/typo.db").list_models()


def test_a_path_of_a_database_in_the_place_of_its_address_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.db").touch()
    for given, address in (
        ("./mine.db", "sqlite:///mine.db"),
        (f"{tmp_path}/mine.db", f"sqlite:///{tmp_path}/mine.db"),
    ):
        with pytest.raises(InvalidInput, match=f"expected an address.*{address}$"):
            MlflowRegistry(given).list_models()


def test_passwords_do_not_stand_in_messages():
    status = MlflowRegistry("http://ada:secret@127.0.0.1:9").status()
    assert "secret" not in status.uri + status.detail


def test_mlflows_own_setting_is_the_default(monkeypatch, sqlite_uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
    registry = MlflowRegistry()
    assert registry.uri == sqlite_uri
    assert registry.status().reachable


def test_mlflow_is_imported_on_first_use():
    code = (
        "import sys; from lepton_mlflow.registry import MlflowRegistry; MlflowRegistry('sqlite:///x.db');"
        "print([name for name in ('mlflow', 'pandas', 'onnxruntime', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_users_settings_are_as_before(sqlite_uri, onnx_file, monkeypatch):
    import mlflow

    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    level = logging.getLogger("mlflow").level
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    environment = dict(os.environ)
    MlflowRegistry(sqlite_uri).register("flights", onnx_file, framework=None, label=None, metadata={})
    assert mlflow.get_tracking_uri() == "sqlite:///elsewhere.db"
    assert dict(os.environ) == environment
    assert logging.getLogger("mlflow").level == level
    assert mlflow.active_run() is None
