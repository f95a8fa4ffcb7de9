"""The target `bentoml`: a project that BentoML builds without a network and serves, without Lepton beside it."""

from __future__ import annotations

import ast
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from lepton_bentoml.target import BentomlTarget
from lepton_plugins.errors import InvalidInput
from lepton_plugins.generate import generate
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import TargetContract, write_deployment


class TestContract(TargetContract):
    target = BentomlTarget


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bento") / "deployment"
    write_deployment(folder)
    return folder


def config_of(project: Path) -> dict[str, Any]:
    """What `service.py` calls CONFIG."""
    for node in ast.parse((project / "service.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "CONFIG":
            found: dict[str, Any] = ast.literal_eval(node.value)
            return found
    raise AssertionError("service.py has no CONFIG")


def test_bentoml_keeps_every_key_of_the_configuration(deployment: Path, tmp_path: Path) -> None:
    """BentoML drops keys that it doesn't know without a word."""
    config = pytest.importorskip("_bentoml_sdk.service.config")
    options = {"cpu": "500m", "memory": "2Gi", "gpu": "1", "workers": "2", "max_concurrency": "64", "timeout": "5s"}
    generate(deployment, "bentoml", tmp_path / "to", options)
    written = config_of(tmp_path / "to")
    assert written["resources"] == {"cpu": "500m", "memory": "2048Mi", "gpu": 1}
    assert written["traffic"] == {"timeout": 5.0, "max_concurrency": 64}
    assert written["workers"] == 2
    kept = config.validate({key: value for key, value in written.items() if key != "name"})
    assert kept == {key: value for key, value in written.items() if key != "name"}


@pytest.mark.parametrize(
    "options", [{"gpu": "0"}, {"memory": "lots"}, {"name": "Line_Router"}, {"gpus": "1"}, {"workers": "many"}]
)
def test_what_bentoml_would_drop_or_misread_is_an_error(
    options: dict[str, str], deployment: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        generate(deployment, "bentoml", tmp_path / "to", options)


def test_bentoml_builds_and_serves_it_where_lepton_is_not_installed(
    deployment: Path, bare_environment: Any, tmp_path: Path
) -> None:
    pytest.importorskip("bentoml")
    project = tmp_path / "project"
    generate(deployment, "bentoml", project, {"memory": "512Mi"})
    env = bare_environment.env | {"BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    # No way to a package index: the build asks none.
    env |= {"PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "LEPTON_TOKEN": "a-token-of-the-secret"}
    bentoml = [bare_environment.python, "-m", "bentoml"]
    build = [*bentoml, "build", "service:Router", "--version", "t1"]
    done = subprocess.run(build, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    bento = tmp_path / "home" / "bentos" / "line-router" / "t1"
    dockerfile = (bento / "env" / "docker" / "Dockerfile").read_text()
    assert "FROM python:3." in dockerfile
    assert "USER bentoml" in dockerfile
    assert "://" not in dockerfile.replace("https://docs.bentoml", "")
    pinned = (bento / "env" / "python" / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in pinned)
    (service,) = yaml.safe_load((bento / "bento.yaml").read_text())["services"]
    assert service["config"]["resources"] == {"memory": "512Mi"}

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    x, units = [0.0, 1.0, 2.0, 3.0], list("abcd")
    with Router.load(deployment) as router:
        expected = router.predict({"x": np.array(x), "unit": np.array(units, dtype=object)}).values
    serve = [*bentoml, "serve", "line-router:t1", "--host", "127.0.0.1", "--port", port]
    with bare_environment.serving(serve, f"{url}/v2/health/ready", tmp_path, env):
        columns = [{"name": "x", "shape": [4], "datatype": "FP32", "data": x}]
        columns += [{"name": "unit", "shape": [4], "datatype": "BYTES", "data": units}]
        infer = httpx.post(f"{url}/v2/models/line/infer", json={"inputs": columns}, timeout=30).json()
        np.testing.assert_allclose(infer["outputs"][0]["data"], expected, atol=1e-6)
        records = [{"x": value, "unit": unit} for value, unit in zip(x, units, strict=True)]
        for path, body in (
            ("/invocations", {"dataframe_records": records}),
            ("/v1/models/line:predict", {"instances": records}),
        ):
            answer = httpx.post(url + path, json=body, timeout=30)
            np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-6)
        assert httpx.get(f"{url}/lepton/plan").status_code == 401
        assert "lepton_requests_total" in httpx.get(f"{url}/lepton/metrics").text
