"""Registries for all tests: a database of its own for each test, and one real MLflow server for the session."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lepton_plugins.plugins import plugins
from tests.processes import serving

# How long an example takes is the machine's affair: a busy one must not fail a test.
settings.register_profile("lepton", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lepton")

# Before anything imports MLflow or Evidently, in this process and in those that tests start.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
for _name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
    os.environ.pop(_name, None)

# A shell's background job ignores Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


#: What MLflow, `lepton serve` and an embedded registry make in the folder that they are started in.
_LEFT_BEHIND = (
    "mlruns",
    "mlartifacts",
    "mlflow.db",
    "file:",
    "lepton-decisions",
    "lepton-learning",
    "lepton-quickstart",
)


@pytest.fixture(scope="session", autouse=True)
def _own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests run in a folder of the session's own; one that leaves something in the checkout all the same fails it."""
    checkout = Path(__file__).parents[1]
    before = {name for name in _LEFT_BEHIND if (checkout / name).exists()}
    started_in = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("session"))
    yield
    os.chdir(started_in)
    left = [name for name in _LEFT_BEHIND if (checkout / name).exists() and name not in before]
    assert not left, f"tests left {', '.join(left)} in {checkout}"


@pytest.fixture(scope="session", autouse=True)
def _installed_plugins() -> None:
    """The process's plugins are those that are installed, not what the first test to ask for them put on sys.path."""
    plugins()


@pytest.fixture(autouse=True)
def _own_path() -> Iterator[None]:
    """MLflow puts the code of a model it loads on sys.path for good: the next test must not find it there."""
    before = sys.path.copy()
    yield
    sys.path[:] = before


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    """Where a test pointed MLflow is a setting of the process, which comes before the environment: the next test's
    registry is another.
    """
    yield
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated MLflow database: copying it takes 0.04 s, a migration 4.6 s."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow-template") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}", f"sqlite:///{file}").search_experiments()
    return file


def new_database(template: Path, folder: Path, artifacts: str | None = None) -> Path:
    """A fresh MLflow database below `folder`, whose artifacts lie beside it (or at the URI `artifacts`)."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "mlflow.db"
    shutil.copyfile(template, file)
    with closing(sqlite3.connect(file)) as database, database:
        root = artifacts or f"{folder}/mlruns"
        database.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (f"{root}/0",))
    return file


@pytest.fixture
def sqlite_uri(mlflow_template: Path, tmp_path: Path) -> str:
    """The URI of an empty registry of this test's own."""
    return f"sqlite:///{new_database(mlflow_template, tmp_path / 'registry')}"


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a port of the loopback that nobody listens on."""
    return _free_port


@contextmanager
def running_server(folder: Path, template: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[str]:
    """A real `mlflow server` on loopback; its URI. Its processes are ended by their group's id."""
    database = new_database(template, folder, "mlflow-artifacts:")
    port = _free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(folder / "artifacts")),
        *options,
    ]
    url = f"http://127.0.0.1:{port}"
    with serving(command, f"{url}/health", folder, {**os.environ, **(env or {})}):
        yield url


@pytest.fixture(scope="session")
def mlflow_server(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of the session's MLflow server. Tests share it: use models of your own (`model_name`)."""
    with running_server(tmp_path_factory.mktemp("mlflow-server"), mlflow_template) as uri:
        yield uri


@pytest.fixture(scope="session")
def start_mlflow_server(mlflow_template: Path) -> Callable[..., AbstractContextManager[str]]:
    """Starts a server of a test's own on a copy of a database: `with start_mlflow_server(folder, *options) as uri`."""

    def start(
        folder: Path, *options: str, env: dict[str, str] | None = None, database: Path = mlflow_template
    ) -> AbstractContextManager[str]:
        return running_server(folder, database, *options, env=env)

    return start


@pytest.fixture(params=["sqlite", "http"])
def registry_uri(request: pytest.FixtureRequest) -> str:
    """Both kinds of registry, one after the other."""
    return str(request.getfixturevalue("sqlite_uri" if request.param == "sqlite" else "mlflow_server"))


@pytest.fixture
def registry(registry_uri: str):  # type: ignore[no-untyped-def]
    """Lepton's registry on a database and on a server."""
    from lepton_mlflow.registry import MlflowRegistry

    return MlflowRegistry(registry_uri)


@pytest.fixture
def model_name() -> str:
    """A name that no other test uses."""
    return f"flights-{uuid.uuid4().hex[:8]}"
