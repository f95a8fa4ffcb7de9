"""The deployments and servers of the data plane's own tests are this adapter's peers."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

_PLACE = Path(__file__).parents[2] / "lepton_plugins" / "serving" / "conftest.py"


@pytest.fixture(scope="session")
def serving() -> Any:
    spec = importlib.util.spec_from_file_location("remote_peers", _PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tensor_peer(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real `lepton serve` of three versions over one tensor, over HTTP and gRPC."""
    folder = tmp_path_factory.mktemp("peer")
    made = serving.build_deployment(folder / "flights", layout="tensors", policy="weighted")
    with serving.run_server(made.path, folder, grpc_port=0) as server:
        yield made, server
