"""The predictor's container, by its own command on what the pod mounts, asked by KServe's own client."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lepton_plugins.generate import generate


@pytest.fixture(scope="module")
def predictor(
    deployment: Path, bare_environment: Any, free_port: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("predictor")
    generate(deployment, "kserve", folder / "to", {"models": "s3://bucket/models"})
    manifest = yaml.safe_load((folder / "to" / "inferenceservice.yaml").read_text())
    (container,) = manifest["spec"]["predictor"]["containers"]
    shutil.copytree(deployment, folder / "mnt")
    url = f"http://127.0.0.1:{(port := free_port())}"
    places = {"python": bare_environment.python, "/mnt": str(folder / "mnt"), "8080": str(port)}
    places["file:///var/lib/lepton/decisions"] = f"file://{folder}/decisions"
    places["file:///var/lib/lepton/learning"] = f"file://{folder}/learning"
    command = [places.get(part, part) for part in [*container["command"], *container["args"]]]
    env = {"PYTHONPATH": str(folder / "to" / "image" / "packages")}
    with bare_environment.serving(command, f"{url}/v2/health/ready", folder, env):
        yield url


def test_it_sends_each_row_where_the_router_does(predictor: str, infer_request: Any, agree: Any) -> None:
    argv, sys.argv = sys.argv, ["kserve"]  # Importing it parses the command line.
    try:
        kserve = pytest.importorskip("kserve")
        from kserve.inference_client import InferenceRESTClient, RESTConfig
    finally:
        sys.argv = argv
    inputs = [
        kserve.InferInput(item["name"], item["shape"], item["datatype"], item["data"])
        for item in infer_request["inputs"]
    ]
    request = kserve.InferRequest(model_name="line", infer_inputs=inputs)

    async def talk() -> Any:
        return await InferenceRESTClient(RESTConfig(protocol="v2")).infer(predictor, request, model_name="line")

    output = asyncio.run(talk()).outputs[0]
    versions = output.parameters["lepton_versions"]
    agree(versions.split(",") if isinstance(versions, str) else versions, output.as_numpy().ravel().tolist())
