"""The predictor's process, as its container starts it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from lepton_plugins.routing.router import Router

MODELS = {"models": "s3://bucket/models"}


def test_the_predictors_process_answers_v1_and_v2(
    free_port: Any, rendered: Path, deployment: Path, bare_environment: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """The container's own command on the pod's mounts, where nothing of Lepton is installed."""
    _answers_v1_and_v2([], free_port(), rendered, deployment, bare_environment, tmp_path, monkeypatch)


def test_the_predictor_runs_as_a_restricted_container(
    contained: Any,
    free_port: Any,
    rendered: Path,
    deployment: Path,
    bare_environment: Any,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    """Read-only root, a user other than root, no capabilities: only the state's volume is writable."""
    (tmp_path / "state").mkdir()
    before = contained(tmp_path / "state")
    probe = subprocess.run([*before, "sh", "-c", "id -u; touch here"], cwd=tmp_path, capture_output=True, check=False)
    assert probe.stdout == b"1000\n"
    assert b"Read-only file system" in probe.stderr
    _answers_v1_and_v2(before, free_port(), rendered, deployment, bare_environment, tmp_path, monkeypatch)


def _answers_v1_and_v2(
    before: list[str],
    port: int,
    rendered: Path,
    deployment: Path,
    bare_environment: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pod = _mounted(rendered, deployment, tmp_path)
    (container,) = yaml.safe_load((rendered / "inferenceservice.yaml").read_text())["spec"]["predictor"]["containers"]
    places = {"python": bare_environment.python, "/mnt": str(pod), "8080": str(port)}
    for kept in ("decisions", "learning"):
        places[f"file:///var/lib/lepton/{kept}"] = f"file://{tmp_path}/state/{kept}"
    command = [*before, *(places.get(part, part) for part in [*container["command"], *container["args"]])]
    # In the image a line in site-packages leads to the packages; the environment stands in for it.
    env = {"PYTHONPATH": str(rendered / "image" / "packages"), "LEPTON_TOKEN": "a-token-of-the-secret"}
    url = f"http://127.0.0.1:{port}"
    ready = container["readinessProbe"]["httpGet"]["path"]
    x = [0.0, 1.0, 2.0, 3.0]
    with Router.load(deployment) as router:
        expected = router.predict({"x": np.array(x), "unit": np.array(list("abcd"), dtype=object)}).values
    with bare_environment.serving(command, url + ready, tmp_path, env):
        columns = [{"name": "x", "shape": [4], "datatype": "FP32", "data": x}]
        columns += [{"name": "unit", "shape": [4], "datatype": "BYTES", "data": list("abcd")}]
        infer = httpx.post(f"{url}/v2/models/line/infer", json={"inputs": columns}, timeout=30).json()
        np.testing.assert_allclose(infer["outputs"][0]["data"], expected, atol=1e-6)
        instances = [{"x": value, "unit": unit} for value, unit in zip(x, "abcd", strict=True)]
        predict = httpx.post(f"{url}/v1/models/line:predict", json={"instances": instances}, timeout=30).json()
        np.testing.assert_allclose(predict["predictions"], expected, atol=1e-6)
        host = {"host": f"late-predictor.ml:{port}"}
        assert httpx.get(f"{url}/lepton/plan", headers=host).status_code == 401
        told = httpx.get(f"{url}/lepton/plan", headers=host | {"authorization": "Bearer a-token-of-the-secret"})
        assert told.status_code == 200
        by_service = httpx.post(f"{url}/v1/models/late:predict", json={"instances": instances}, timeout=30)
        np.testing.assert_allclose(by_service.json()["predictions"], expected, atol=1e-6)
        assert httpx.get(f"{url}/v2/models/late/ready").status_code == 200
        assert httpx.get(f"{url}/v2/models/other/ready").status_code == 404
        assert "lepton_requests_total" in httpx.get(url + "/metrics").text

        monkeypatch.setattr(sys, "argv", ["kserve"])  # Importing it parses the command line.
        kserve = pytest.importorskip("kserve")
        from kserve.inference_client import InferenceRESTClient, RESTConfig

        inputs = [kserve.InferInput("x", [4], "FP32", x), kserve.InferInput("unit", [4], "BYTES", list("abcd"))]
        request = kserve.InferRequest(model_name="line", infer_inputs=inputs)

        async def talk() -> tuple[Any, Any]:
            v2, v1 = (InferenceRESTClient(RESTConfig(protocol=protocol)) for protocol in ("v2", "v1"))
            body = {"instances": instances}
            return await v2.infer(url, request, model_name="line"), await v1.infer(url, body, model_name="line")

        by_v2, by_v1 = asyncio.run(talk())
        np.testing.assert_allclose(by_v2.outputs[0].as_numpy().ravel(), expected, atol=1e-6)
        np.testing.assert_allclose(by_v1["predictions"], expected, atol=1e-6)
    assert any((tmp_path / "state").rglob("*")), "decisions are kept"


def _mounted(rendered: Path, deployment: Path, tmp_path: Path) -> Path:
    """What the storage initializer and the ConfigMap make of /mnt."""
    config = yaml.safe_load((rendered / "plan.yaml").read_text())
    pod = tmp_path / "mnt"
    shutil.copytree(deployment / "models", pod / "models")
    (pod / "plan.json").write_text(config["data"]["plan.json"])
    (tmp_path / "state").mkdir(exist_ok=True)
    return pod
