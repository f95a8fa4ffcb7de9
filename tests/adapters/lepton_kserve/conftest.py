"""KServe's schema, and what an API server does with what it doesn't know: it drops it without a word."""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lepton_plugins.generate import generate
from lepton_plugins.testing import write_deployment

_SCHEMA = gzip.decompress((Path(__file__).parent / "data" / "inferenceservice-v1beta1.json.gz").read_bytes())
SCHEMA: dict[str, Any] = json.loads(_SCHEMA)
MODELS = "s3://bucket/models"


def pruned(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """The fields that an API server would drop: those a structural schema doesn't list."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            if key in known:
                yield from pruned(item, known[key], f"{place}.{key}")
            elif isinstance(others, dict):
                yield from pruned(item, others, f"{place}.{key}")
            elif place != ".metadata" and others is not True:  # The API server's own type.
                yield f"{place}.{key}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from pruned(item, schema.get("items", {}), f"{place}[{index}]")


@pytest.fixture(scope="session")
def check() -> Any:
    """Fails where the CRD's schema refuses a manifest or would drop a field of it."""
    validator = jsonschema.Draft7Validator(SCHEMA)

    def checked(manifest: dict[str, Any]) -> None:
        found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
        assert found == []
        assert list(pruned(manifest, SCHEMA)) == []

    return checked


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kserve") / "deployment"
    write_deployment(folder)
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A deployment with another plan of the same model."""
    plan = write_deployment(tmp_path / "other")
    (tmp_path / "other" / "plan.json").write_bytes(plan.model_copy(update={"default": "2"}).content)
    return tmp_path / "other"


@pytest.fixture(scope="session")
def rendered(deployment: Path) -> Path:
    to = deployment.parent / "rendered"
    generate(
        deployment, "kserve", to, {"models": MODELS, "name": "late", "namespace": "ml", "token_secret": "line-token"}
    )
    return to


@pytest.fixture(scope="session")
def manifest_of() -> Callable[[Path], Any]:
    """The InferenceService that was rendered to a folder."""
    return lambda folder: yaml.safe_load((folder / "inferenceservice.yaml").read_text())


@pytest.fixture
def manifest(rendered: Path, manifest_of: Callable[[Path], Any]) -> Any:
    return manifest_of(rendered)


#: As a kubelet starts a "restricted" container: another user than root, no capabilities, nothing writable but a volume.
_CONTAINED = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro /
shift
exec unshare --user --map-user=1000 --map-group=1000 -- setpriv --no-new-privs --inh-caps=-all "$@"
"""


@pytest.fixture
def contained() -> Callable[[Path], list[str]]:
    """What to put before a command so that only a folder is writable to it; skips where a machine has no namespaces."""

    def before(writable: Path) -> list[str]:
        prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _CONTAINED, "sh", str(writable)]
        there = shutil.which("unshare") is not None and shutil.which("setpriv") is not None
        if not there or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode != 0:
            pytest.skip("this machine lets nobody make a read-only root (unshare --user --mount)")
        return prefix

    return before


def load(name: str) -> Any:
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def beside() -> Callable[[str], Any]:
    return load


@pytest.fixture
def api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An API server on loopback, and a kubeconfig whose current context is its namespace ml."""
    module, wire = load("api_server"), load("wire")
    server = module.ApiServer(json.loads(_SCHEMA), pruned, load("controller"), partial(wire.serve, module))
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server.address}}],
        "users": [{"name": "tester", "user": {"token": module.TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "tester", "namespace": "ml"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    yield server
    server.close()
