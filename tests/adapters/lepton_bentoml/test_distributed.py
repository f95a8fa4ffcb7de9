"""Topology `distributed` in a bento: a service for each version, on which the router's depends."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from lepton_plugins.errors import ConfigKeyUnknown, InvalidInput
from lepton_plugins.generate import generate
from lepton_plugins.records.resources import ResourceSpec
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import write_deployment

pytest.importorskip("bentoml")

GIB = 2**30
POOL = {"nodes": 2, "cpu": 8, "memory": "32Gi", "gpu": 2}
ROWS = [{"x": float(x), "unit": f"u{index}"} for index, x in enumerate(np.linspace(-3, 3, 40, dtype=np.float32))]


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment directory whose plan is to be distributed: four cores for version 1, a GPU for version 2."""
    folder = tmp_path_factory.mktemp("distributed") / "deployment"
    plan = write_deployment(folder)
    given = {"load": "100/s", "headroom": 0.25, "pools": {"all": POOL}}
    figures: tuple[dict[str, Any], ...] = (
        {"replicas": 2, "pools": {"all": 2}, "cpu": 8.0, "memory": 4 * GIB},
        {"replicas": 1, "pools": {"all": 1}, "cpu": 2.0, "memory": 8 * GIB, "gpu": 1.0, "gpu_memory": 4 * GIB},
    )
    arms = tuple(
        arm.model_copy(update={"resources": arm.resources.model_copy(update=figure)})
        for arm, figure in zip(plan.arms, figures, strict=True)
    )
    spec = plan.spec.model_copy(update={"resources": ResourceSpec.model_validate(given)})
    write_plan(plan.model_copy(update={"arms": arms, "spec": spec, "topology": "distributed"}), {}, folder)
    return folder


def configs(project: Path) -> dict[str, Any]:
    """What `service.py` calls CONFIG…, by name."""
    found = {}
    for node in ast.parse((project / "service.py").read_text()).body:
        if isinstance(node, ast.Assign) and (name := getattr(node.targets[0], "id", "")).startswith("CONFIG"):
            found[name] = ast.literal_eval(node.value)
    return found


def test_each_service_has_the_figures_of_its_version(apart: Path, tmp_path: Path) -> None:
    config = pytest.importorskip("_bentoml_sdk.service.config")
    file = tmp_path / "bentoml.yaml"
    file.write_text(yaml.safe_dump({"http": {"port": 4000}, "services": {1: {"workers": 4}}}))
    options = {"config": str(file), "memory": "1Gi", "max_concurrency": "64", "gpu_type": "nvidia-l4"}
    generate(apart, "bentoml", tmp_path / "to", options)
    found = configs(tmp_path / "to")
    assert found["CONFIG"] == {
        "name": "line-router",
        "http": {"port": 4000},
        "resources": {"memory": "1024Mi"},
        "traffic": {"timeout": 60.0, "max_concurrency": 64},
        "workers": 1,
    }
    assert found["CONFIG_1"] == {
        "name": "line-router-v1",
        "resources": {"cpu": "4000m", "memory": "2048Mi"},
        "traffic": {"timeout": 60.0, "concurrency": 4},
        "workers": 4,
    }
    assert found["CONFIG_2"] == {
        "name": "line-router-v2",
        "resources": {"cpu": "2000m", "memory": "8192Mi", "gpu": 1, "gpu_type": "nvidia-l4"},
        "traffic": {"timeout": 60.0, "concurrency": 2},
        "workers": 1,
    }
    for written in found.values():
        plain = {key: value for key, value in written.items() if key != "name"}
        assert config.validate(dict(plain)) == plain, "BentoML keeps every key"
    text = (tmp_path / "to" / "service.py").read_text()
    assert "version_1 = bentoml.depends(Version1)" in text
    assert not any((tmp_path / "to" / "deployment" / "models").iterdir()), "the router has no version's files"


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        ({"services": {"1": {"resources": {"gpus": 1}}}}, ConfigKeyUnknown, "resources.gpus"),
        ({"services": {"3": {}}}, InvalidInput, "services: found 3, expected one of 1, 2"),
        ({"services": ["1"]}, InvalidInput, "expected a mapping by version"),
        ({"services": {"1": {"resources": {"memory": 512}}}}, InvalidInput, "which BentoML takes for Gi"),
        ({"services": {"2": {"workers": "cpu_count"}}}, InvalidInput, "gives such workers no GPU"),
    ],
)
def test_what_bentoml_would_drop_or_misread_of_a_service_is_an_error(
    content: Any, error: type[Exception], said: str, apart: Path, tmp_path: Path
) -> None:
    file = tmp_path / "bentoml.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(error) as caught:
        generate(apart, "bentoml", tmp_path / "to", {"config": str(file)})
    assert said in str(caught.value)


def test_one_service_takes_nothing_that_is_said_of_several(tmp_path: Path) -> None:
    write_deployment(tmp_path / "deployment")
    file = tmp_path / "bentoml.yaml"
    file.write_text(yaml.safe_dump({"services": {"1": {"workers": 2}}}))
    with pytest.raises(ConfigKeyUnknown, match="services"):
        generate(tmp_path / "deployment", "bentoml", tmp_path / "to", {"config": str(file)})
    with pytest.raises(InvalidInput, match="topology is embedded"):
        generate(tmp_path / "deployment", "bentoml", tmp_path / "to", {"fallback": "local"})


def test_the_image_of_a_plan_with_gpus_has_what_uses_them(apart: Path, tmp_path: Path) -> None:
    _, _, told = generate(apart, "bentoml", tmp_path / "one", {})
    assert "--base-image" in told["gpu"]
    assert "onnxruntime-gpu==" in (tmp_path / "one" / "requirements.txt").read_text()
    base = "nvidia/cuda:12.9.1-cudnn-runtime-ubuntu24.04"
    _, _, told = generate(apart, "bentoml", tmp_path / "two", {"base_image": base})
    assert "gpu" not in told
    assert f"bentoml.images.Image(base_image='{base}', python_version=" in (tmp_path / "two" / "service.py").read_text()


def test_a_local_fallback_answers_where_no_service_does(apart: Path, tmp_path: Path) -> None:
    generate(apart, "bentoml", tmp_path / "to", {"fallback": "local"})
    assert set(configs(tmp_path / "to")) == {"CONFIG", "CONFIG_2"}
    with Router.load(tmp_path / "to" / "deployment") as router:
        found = router.predict({name: np.array([row[name] for row in ROWS]) for name in ("x", "unit")})
    assert {decision.served for decision in found.decisions} == {"1"}
    assert {decision.fallback for decision in found.decisions if decision.chosen == "2"} == {"peer_unavailable"}


@pytest.fixture
def served(apart: Path, tmp_path: Path, bare_environment: Any, free_port: Any) -> Iterator[str]:
    """The URL of the bento, built and served as a user does."""
    generate(apart, "bentoml", tmp_path / "project", {})
    # The plan asks for a GPU, which `bentoml serve` would look for.
    text = (tmp_path / "project" / "service.py").read_text().replace("'gpu': 1,", "")
    (tmp_path / "project" / "service.py").write_text(text)
    env = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    bentoml = [sys.executable, "-m", "bentoml"]
    build = [*bentoml, "build", "service:Router", "--version", "t1"]
    done = subprocess.run(build, cwd=tmp_path / "project", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    bento = yaml.safe_load((tmp_path / "home" / "bentos" / "line-router" / "t1" / "bento.yaml").read_text())
    models = {item["name"]: [model["tag"] for model in item["models"]] for item in bento["services"]}
    assert {name: len(tags) for name, tags in models.items()} == {
        "line-router": 0,
        "line-router-v1": 1,
        "line-router-v2": 1,
    }
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve = [*bentoml, "serve", "line-router:t1", "--host", "127.0.0.1", "--port", str(port)]
    with bare_environment.serving(serve, f"{url}/readyz", tmp_path, env):
        yield url


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_bentos_services_decide_as_one_process_does(apart: Path, served: str) -> None:
    with Router.load(apart) as router:
        expected = router.predict({name: np.array([row[name] for row in ROWS]) for name in ("x", "unit")})
    told = httpx.post(f"{served}/decide", json={"rows": ROWS}, timeout=60).json()
    assert [row["lepton_version"] for row in told] == [decision.served for decision in expected.decisions]
    assert {row["lepton_version"] for row in told} == {"1", "2"}
    np.testing.assert_allclose([row["prediction"] for row in told], expected.values, rtol=1e-6)
    mounted = httpx.post(f"{served}/invocations", json={"dataframe_records": ROWS}, timeout=60).json()
    np.testing.assert_allclose(mounted["predictions"], expected.values, rtol=1e-6)


_IN_PROCESS = """
import json, sys
from starlette.testclient import TestClient
sys.path.insert(0, ".")
import service
with TestClient(service.Router.to_asgi()) as client:
    print(json.dumps(client.post("/decide", json={"rows": json.loads(sys.argv[1])}).json()))
"""


@pytest.mark.long
def test_a_test_of_yours_needs_no_server(apart: Path, tmp_path: Path) -> None:
    """Where BentoML serves no other service, the services run in the process that asks them."""
    generate(apart, "bentoml", tmp_path / "project", {})
    env = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-c", _IN_PROCESS, json.dumps(ROWS)]
    done = subprocess.run(command, cwd=tmp_path / "project", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {row["lepton_version"] for row in json.loads(done.stdout.splitlines()[-1])} == {"1", "2"}
