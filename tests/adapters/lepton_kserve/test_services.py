"""Topology `distributed`: the versions' predictors and the router's run as their containers start them."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from lepton_plugins.canonical import digest_tree
from lepton_plugins.distribution import services_of
from lepton_plugins.errors import InvalidInput
from lepton_plugins.generate import generate
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import write_deployment
from tests.processes import serving

#: Lepton by its name: its packages needn't be written for each test.
OPTIONS = {"models": "s3://bucket/models", "name": "late", "lepton_requirement": "lepton-plugins==0.1.0"}
ROWS = {"x": np.linspace(-3.0, 3.0, 40, dtype=np.float32), "unit": np.array([f"u{i}" for i in range(40)], dtype=object)}


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment directory whose plan is to be distributed."""
    folder = tmp_path_factory.mktemp("distributed") / "deployment"
    plan = write_deployment(folder)
    write_plan(plan.model_copy(update={"topology": "distributed"}), {}, folder)
    return folder


def pod(rendered: Path, deployment: Path, to: Path) -> Path:
    """What the storage initializer and the ConfigMap make of /mnt in the pod of an InferenceService."""
    predictor = yaml.safe_load((rendered / "inferenceservice.yaml").read_text())["spec"]["predictor"]
    config = yaml.safe_load((rendered / "plan.yaml").read_text())
    mnt = to / "mnt"
    for item in predictor.get("storageUris", ()):
        shutil.copytree(deployment / "models" / item["uri"].rpartition("/")[2], mnt / item["mountPath"][len("/mnt/") :])
    (volume,) = (item["configMap"] for item in predictor["volumes"] if "configMap" in item)
    mounted = [mount["subPath"] for mount in predictor["containers"][0]["volumeMounts"] if mount["name"] == "plan"]
    assert volume["name"] == config["metadata"]["name"]
    for item in volume["items"]:
        assert item["path"].partition("/")[0] in mounted
        file = mnt / item["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        held = config["data"].get(item["key"])
        content = base64.b64decode(config["binaryData"][item["key"]]) if held is None else held.encode()
        file.write_bytes(content)
    (to / "state").mkdir(exist_ok=True)
    return mnt


@pytest.fixture
def started(apart: Path, tmp_path: Path) -> Iterator[Callable[[Path, str, int], str]]:
    """Starts the container of an InferenceService at an address; returns its URL once it is ready."""
    with ExitStack() as stack:
        homes = count()

        def start(rendered: Path, host: str, port: int) -> str:
            home = tmp_path / f"pod-{next(homes)}"
            mnt = pod(rendered, apart, home)
            manifest = yaml.safe_load((rendered / "inferenceservice.yaml").read_text())
            container = manifest["spec"]["predictor"]["containers"][0]
            given = [
                part.replace("/var/lib/lepton", str(home / "state")).replace("8080", str(port))
                for part in container["args"]
            ]
            command = [sys.executable, *container["command"][1:], *given, "--deployment", str(mnt), "--host", host]
            stack.enter_context(serving(command, f"http://{host}:{port}/v2/health/ready", home))
            return f"http://{host}:{port}"

        yield start


def asked(url: str) -> tuple[Any, list[str]]:
    """Answers and versions of the rows, over V2."""
    inputs = [
        {"name": "x", "shape": [40], "datatype": "FP32", "data": ROWS["x"].tolist()},
        {"name": "unit", "shape": [40], "datatype": "BYTES", "data": ROWS["unit"].tolist()},
    ]
    said = httpx.post(f"{url}/v2/models/late/infer", json={"inputs": inputs}, timeout=20)
    assert said.status_code == 200, said.text
    (output,) = said.json()["outputs"]
    versions = output.get("parameters", {}).get("lepton_versions", said.headers["x-lepton-version"])
    return output["data"], versions.split(",") * (1 if "," in versions else 40)


def test_services_and_their_router_decide_as_one_process_does(
    apart: Path, tmp_path: Path, started: Callable[[Path, str, int], str], free_port: Any
) -> None:
    to, ports = tmp_path / "to", free_port()
    generate(apart, "kserve", to, {**OPTIONS, "service_url": f"http://127.0.1.{{version}}:{ports}"})
    one = started(to / "services" / "late-v1", "127.0.1.1", ports)
    started(to / "services" / "late-v2", "127.0.1.2", ports)
    router = started(to, "127.0.0.1", free_port())
    with Router.load(apart) as embedded:
        expected = embedded.predict(ROWS)
        digest = embedded.plan.digest
    values, versions = asked(router)
    assert versions == [decision.served for decision in expected.decisions]
    assert set(versions) == {"1", "2"}
    np.testing.assert_allclose(values, expected.values, rtol=1e-6)
    assert httpx.get(f"{router}/lepton/plan").json()["digest"] == digest, "it is the plan that the registry knows"

    # A service runs the bytes that its name says, and no others.
    name = next(part for part in yaml.safe_load((to / "plan.yaml").read_text())["binaryData"].values() if part)
    assert httpx.get(f"{one}/v2/models/late-v1-0000000000000000").status_code == 404
    assert b"late-v" in base64.b64decode(name)
    astray = tmp_path / "astray"
    generate(apart, "kserve", astray, {**OPTIONS, "service_url": one})
    with Router.load(pod(astray, apart, tmp_path / "astray-pod")) as lost:
        found = lost.predict(ROWS)
        assert set(found.versions) == {"1"}, "version 2 isn't there"
        assert {d.fallback for d in found.decisions if d.chosen == "2"} == {"peer_unavailable"}


def test_a_local_fallback_answers_without_any_service(apart: Path, tmp_path: Path) -> None:
    generate(apart, "kserve", tmp_path / "to", {**OPTIONS, "fallback": "local", "service_url": "http://127.0.0.1:9"})
    assert [path.name for path in (tmp_path / "to" / "services").iterdir()] == ["late-v2"]
    manifest = yaml.safe_load((tmp_path / "to" / "inferenceservice.yaml").read_text())
    assert manifest["metadata"]["annotations"]["lepton.fallback"] == "local"
    assert "onnxruntime" in (tmp_path / "to" / "image" / "requirements.txt").read_text()
    with Router.load(pod(tmp_path / "to", apart, tmp_path / "pod")) as router:
        found = router.predict(ROWS)
    assert set(found.versions) == {"1"}
    assert {d.fallback for d in found.decisions} == {None, "peer_unavailable"}


def test_a_new_plan_leaves_the_services_as_they_are(apart: Path, tmp_path: Path) -> None:
    """Shares, segments, budgets: none of them restarts a version's pods."""
    generate(apart, "kserve", tmp_path / "one", OPTIONS)
    generate(apart, "kserve", tmp_path / "same", OPTIONS)
    assert digest_tree(tmp_path / "one") == digest_tree(tmp_path / "same")
    other = tmp_path / "deployment"
    shutil.copytree(apart, other)
    with Router.load(apart) as router:
        plan = router.plan
    arms = tuple(arm.model_copy(update={"share": 0.5}) for arm in plan.arms)
    write_plan(plan.model_copy(update={"arms": arms, "parent": plan.digest}), {}, other)
    generate(other, "kserve", tmp_path / "two", OPTIONS)
    for name in ("late-v1/inferenceservice.yaml", "late-v1/plan.yaml", "late-v2/inferenceservice.yaml"):
        one, two = (tmp_path / side / "services" / name for side in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert (tmp_path / "one" / "plan.yaml").read_bytes() != (tmp_path / "two" / "plan.yaml").read_bytes()


def test_each_image_has_what_its_part_needs_and_the_same_one_is_built_once(apart: Path, tmp_path: Path) -> None:
    _, _, told = generate(apart, "kserve", tmp_path / "to", {**OPTIONS, "image": "registry.example/late:7"})
    built = [words.split()[3] for words in told["next"].split(" && ") if words.startswith("docker build")]
    assert built == ["registry.example/late:7", "registry.example/late:7-v1"]
    assert told["next"].endswith(f" && kubectl apply -k {tmp_path}/to")
    images = {
        path.parent.name: yaml.safe_load(path.read_text())["spec"]["predictor"]["containers"][0]["image"]
        for path in (tmp_path / "to").rglob("inferenceservice.yaml")
    }
    assert images == {
        "to": "registry.example/late:7",
        "late-v1": "registry.example/late:7-v1",
        "late-v2": "registry.example/late:7-v1",
    }
    assert "onnxruntime" not in (tmp_path / "to" / "image" / "requirements.txt").read_text()
    assert "onnxruntime" in (tmp_path / "to" / "services" / "late-v1" / "image" / "requirements.txt").read_text()
    assert not (tmp_path / "to" / "services" / "late-v2" / "image").exists()
    kustomization = yaml.safe_load((tmp_path / "to" / "kustomization.yaml").read_text())
    written = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*.yaml")}
    wanted = {path for path in written if "/image/" not in f"/{path}"} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == wanted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "Knative"}, "--namespace: found none"),
        ({"service_url": "http://{pod}"}, "--service-url: found 'http://{pod}'"),
        ({"image": "late@sha256:00"}, "--image: found the digest"),
        ({"name": "l" * 51}, "at most 53 characters"),
    ],
)
def test_what_services_cannot_be_told(options: dict[str, str], said: str, apart: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=said):
        generate(apart, "kserve", tmp_path / "to", {**OPTIONS, **options})
    assert not (tmp_path / "to").exists()


def test_one_process_has_no_services(deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="topology is embedded"):
        generate(deployment, "kserve", tmp_path / "to", {**OPTIONS, "fallback": "local"})


def test_versions_with_the_same_bytes_share_a_service(apart: Path) -> None:
    with Router.load(apart) as router:
        plan = router.plan
    first, second = plan.arms
    elsewhere = second.model_copy(update={"format": "remote", "backend": "remote"})
    assert [item.arm.version for item in services_of(plan.model_copy(update={"arms": (first, elsewhere)}))] == ["1"]
    alike = second.model_copy(update={"artifact_digest": first.artifact_digest})
    assert [item.arm.version for item in services_of(plan)] == ["1", "2"]
    assert [item.arm.version for item in services_of(plan.model_copy(update={"arms": (first, alike)}))] == ["1"]
    assert services_of(plan.model_copy(update={"arms": (first, alike)}), "local") == ()


def test_your_manifest_is_the_routers_and_its_mode_that_of_all(apart: Path, tmp_path: Path, check: Any) -> None:
    mine = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "old",
            "namespace": "ml",
            "annotations": {"serving.kserve.io/deploymentMode": "Knative", "mine": "kept"},
        },
        "spec": {
            "predictor": {
                "nodeSelector": {"disk": "ssd"},
                "sklearn": {"storageUri": "s3://bucket/old", "resources": {"limits": {"nvidia.com/gpu": "1"}}},
            },
            "transformer": {"containers": [{"name": "prepare", "image": "prepare:1"}]},
        },
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    given = {key: value for key, value in OPTIONS.items() if key != "name"}
    generate(apart, "kserve", tmp_path / "to", {**given, "from": str(tmp_path / "mine.yaml")})
    found = {
        path.parent.name: yaml.safe_load(path.read_text()) for path in (tmp_path / "to").rglob("inferenceservice.yaml")
    }
    for manifest in found.values():
        check(manifest)
        assert manifest["metadata"]["namespace"] == "ml"
        assert manifest["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    router, service = found["to"], found["old-v1"]
    assert router["metadata"]["annotations"]["mine"] == "kept"
    assert router["spec"]["transformer"] == mine["spec"]["transformer"]  # type: ignore[index]
    assert router["spec"]["predictor"]["nodeSelector"] == {"disk": "ssd"}
    limits = router["spec"]["predictor"]["containers"][0]["resources"]["limits"]
    assert "nvidia.com/gpu" not in limits, "the router runs no model"
    assert "transformer" not in service["spec"]
    assert "nodeSelector" not in service["spec"]["predictor"]
    held = yaml.safe_load((tmp_path / "to" / "plan.yaml").read_text())["binaryData"].values()
    urls = sorted(json.loads(base64.b64decode(value))["url"] for value in held)
    assert urls == [f"http://old-v{version}-predictor.ml.svc" for version in (1, 2)], "Knative asks for the whole name"
