"""The deployments and servers of the data plane's own tests are this adapter's peers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lepton_plugins.serving import conftest


@pytest.fixture(scope="session")
def serving() -> Any:
    """The tests of serving: what makes deployments and servers."""
    return conftest


@pytest.fixture(scope="session")
def tensor_peer(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real `lepton serve` of three versions over one tensor, over HTTP and gRPC."""
    folder = tmp_path_factory.mktemp("peer")
    made = serving.build_deployment(folder / "flights", layout="tensors", policy="weighted")
    with serving.run_server(made.path, folder, grpc_port=0) as server:
        yield made, server
