"""The target `kserve`: manifests that a cluster takes, and the predictor's process as its container starts it."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton_kserve.manifest import inference_service
from lepton_kserve.options import KserveOptions
from lepton_kserve.part import Part
from lepton_kserve.plan_map import plan_map
from lepton_kserve.sources import is_pullable
from lepton_kserve.target import KserveTarget
from lepton_plugins.errors import InvalidInput, ManifestInvalid, SourceNotPullable
from lepton_plugins.generate import generate
from lepton_plugins.needs import need_of_all
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import TargetContract

MODELS = {"models": "s3://bucket/models"}
V1BETA1 = "apiVersion: serving.kserve.io/v1beta1, kind: InferenceService"


class TestContract(TargetContract):
    target = KserveTarget
    options = MODELS


def test_the_cluster_takes_it_and_drops_nothing(manifest: dict[str, Any], check: Any) -> None:
    check(manifest)


def test_the_check_sees_what_a_cluster_would_drop(manifest: dict[str, Any], check: Any) -> None:
    manifest["spec"]["predictor"]["autoscaling"] = {}
    with pytest.raises(AssertionError, match=r"spec\.predictor\.autoscaling"):
        check(manifest)


def test_the_pod_keeps_pod_security_restricted(manifest: dict[str, Any]) -> None:
    predictor = manifest["spec"]["predictor"]
    pod, container = predictor["securityContext"], predictor["containers"][0]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert [volume["name"] for volume in predictor["volumes"] if "emptyDir" in volume] == ["state", "tmp"]
    token = container["env"][0]
    assert token["valueFrom"]["secretKeyRef"] == {"name": "line-token", "key": "token"}


def test_every_version_is_mounted_where_the_plan_looks(rendered: Path, manifest: dict[str, Any]) -> None:
    folders = [item["mountPath"] for item in manifest["spec"]["predictor"]["storageUris"]]
    config = yaml.safe_load((rendered / "plan.yaml").read_text())
    plan = yaml.safe_load(config["data"]["plan.json"])
    digests = sorted(arm["artifact_digest"].removeprefix("sha256:") for arm in plan["arms"])
    assert folders == [f"/mnt/models/{digest}" for digest in digests]
    (volume,) = [volume for volume in manifest["spec"]["predictor"]["volumes"] if "configMap" in volume]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    kustomization = yaml.safe_load((rendered / "kustomization.yaml").read_text())
    assert all((rendered / file).is_file() for file in kustomization["resources"])


def test_the_policys_files_go_into_the_config_map(deployment: Path) -> None:
    plan = DeploymentDirectory.open(deployment).plan
    content = {"b/table.bin": b"\x00\x01", "a.json": b"{}"}
    config, volume, mounts = plan_map(plan, content, "line", None)
    items = {item["path"]: item["key"] for item in volume["configMap"]["items"]}
    for path, expected in content.items():
        assert base64.b64decode(config["binaryData"][items[f"policy/{path}"]]) == expected
    assert [mount["mountPath"] for mount in mounts] == ["/mnt/plan.json", "/mnt/policy"]


def test_your_manifest_keeps_what_is_yours(deployment: Path, tmp_path: Path, check: Any) -> None:
    mine = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "old",
            "namespace": "airports",
            "uid": "1-2-3",
            "labels": {"team": "airports"},
            "annotations": {"serving.kserve.io/deploymentMode": "Knative", "mine": "kept"},
        },
        "spec": {
            "predictor": {
                "serviceAccountName": "reader",
                "nodeSelector": {"disk": "ssd"},
                "minReplicas": 2,
                "maxReplicas": 5,
                "model": {
                    "modelFormat": {"name": "sklearn"},
                    "storageUri": "s3://bucket/old",
                    "resources": {"limits": {"cpu": "3"}},
                    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
                    "args": ["--workers=2"],
                },
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "volumes": [{"name": "certificates", "configMap": {"name": "certificates"}}],
            },
            "transformer": {"containers": [{"name": "prepare", "image": "prepare:1"}]},
        },
        "status": {"url": "http://old"},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    generate(deployment, "kserve", tmp_path / "to", {**MODELS, "from": str(tmp_path / "mine.yaml")})
    manifest = yaml.safe_load((tmp_path / "to" / "inferenceservice.yaml").read_text())
    check(manifest)
    metadata, spec = manifest["metadata"], manifest["spec"]
    assert metadata["labels"] == {"team": "airports"}
    assert metadata["annotations"]["mine"] == "kept"
    assert metadata["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    assert "uid" not in metadata
    assert "status" not in manifest
    assert spec["transformer"] == mine["spec"]["transformer"]  # type: ignore[index]
    predictor = spec["predictor"]
    assert predictor["serviceAccountName"] == "reader"
    assert predictor["nodeSelector"] == {"disk": "ssd"}
    assert predictor["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert [volume["name"] for volume in predictor["volumes"]] == ["plan", "state", "tmp", "certificates"]
    assert (metadata["name"], metadata["namespace"]) == ("old", "airports")
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 5)
    assert "model" not in predictor
    container = predictor["containers"][0]
    assert container["resources"] == {"limits": {"cpu": "3"}}
    assert [variable["name"] for variable in container["env"]] == ["LEPTON_TOKEN", "HTTPS_PROXY"]
    assert "--workers=2" not in container["args"]
    assert "old-predictor.airports.svc" in container["args"]

    again = tmp_path / "to" / "inferenceservice.yaml"
    generate(deployment, "kserve", tmp_path / "again", {**MODELS, "from": str(again)})
    assert (tmp_path / "again" / "inferenceservice.yaml").read_bytes() == again.read_bytes()


def test_a_manifest_of_a_cluster_loses_what_is_the_clusters(deployment: Path, tmp_path: Path, check: Any) -> None:
    """An owner that isn't there would take the service with it, a finalizer hold it; workers are the model's."""
    mine = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "mine",
            "finalizers": ["inferenceservice.finalizers", "team/ticket"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "1-2-3"}],
        },
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "huggingface"},
                    "securityContext": {"runAsUser": 0, "privileged": True},
                },
                "workerSpec": {"pipelineParallelSize": 2},
            }
        },
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    generate(deployment, "kserve", tmp_path / "to", {**MODELS, "from": str(tmp_path / "mine.yaml")})
    manifest = _manifest(tmp_path / "to")
    check(manifest)
    assert manifest["metadata"]["finalizers"] == ["team/ticket"]
    assert "ownerReferences" not in manifest["metadata"]
    assert "workerSpec" not in manifest["spec"]["predictor"]
    context = manifest["spec"]["predictor"]["containers"][0]["securityContext"]
    assert not {"runAsUser", "privileged"} & set(context)


def test_knative_takes_no_security_context_of_a_pod(deployment: Path, tmp_path: Path) -> None:
    """Its feature podspec-securitycontext is off by default: the container has all that "restricted" asks."""
    generate(deployment, "kserve", tmp_path / "to", {**MODELS, "mode": "Knative"})
    predictor = _manifest(tmp_path / "to")["spec"]["predictor"]
    assert "securityContext" not in predictor
    context = predictor["containers"][0]["securityContext"]
    assert (context["runAsUser"], context["runAsNonRoot"]) == (1000, True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    again = tmp_path / "to" / "inferenceservice.yaml"
    generate(deployment, "kserve", tmp_path / "again", {**MODELS, "from": str(again)})
    assert (tmp_path / "again" / "inferenceservice.yaml").read_bytes() == again.read_bytes()


@pytest.mark.parametrize("name", ["kserve-container", "my-model", None])
def test_a_lone_container_is_the_models(name: str | None, deployment: Path, tmp_path: Path, check: Any) -> None:
    """KServe gives it its own name; its STORAGE_URI is a storageUri, which may not stand beside storageUris."""
    env = [{"name": "STORAGE_URI", "value": "s3://bucket/old"}, {"name": "LEVEL", "value": "3"}]
    mounts = [{"name": "model", "mountPath": "/mnt/models"}, {"name": "data", "mountPath": "/data"}]
    container: dict[str, Any] = {"image": "mine:1", "args": ["--x"], "env": env, "volumeMounts": mounts}
    container |= {"name": name} if name else {}
    head = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "mine"}}
    mine = {**head, "spec": {"predictor": {"name": "stable", "containers": [container]}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    given = {"from": str(tmp_path / "mine.yaml"), "namespace": "ml", "allowed_hosts": "mine.ml.example.com"}
    generate(deployment, "kserve", tmp_path / "to", {**MODELS, **given})
    manifest = _manifest(tmp_path / "to")
    check(manifest)
    (found,) = manifest["spec"]["predictor"]["containers"]
    assert (found["name"], [variable["name"] for variable in found["env"]]) == (
        "kserve-container",
        ["LEPTON_TOKEN", "LEVEL"],
    )
    assert [mount["mountPath"] for mount in found["volumeMounts"]][-2:] == ["/tmp", "/data"]
    hosts = [value for flag, value in zip(found["args"], found["args"][1:], strict=False) if flag == "--allowed-host"]
    assert hosts[0] == "mine-stable-predictor", "a predictor with a name has it in its Service's"
    assert hosts[-2:] == ["mine-stable-predictor.ml.svc.cluster.local", "mine.ml.example.com"]


_TEXT = st.text("abcdefgh-", min_size=1, max_size=8)
_LABELS = st.dictionaries(_TEXT, _TEXT, max_size=3)
_MINE = st.fixed_dictionaries(
    {},
    optional={
        "serviceAccountName": _TEXT,
        "nodeSelector": _LABELS,
        "priorityClassName": _TEXT,
        "imagePullSecrets": st.lists(st.fixed_dictionaries({"name": _TEXT}), max_size=2),
        "tolerations": st.lists(st.fixed_dictionaries({"key": _TEXT}), max_size=2),
        "terminationGracePeriodSeconds": st.integers(1, 99),
        "minReplicas": st.integers(0, 3),
        "maxReplicas": st.integers(3, 9),
        "timeout": st.integers(1, 99),
        "initContainers": st.lists(st.fixed_dictionaries({"name": _TEXT, "image": _TEXT}), max_size=1),
        "volumes": st.lists(st.fixed_dictionaries({"name": _TEXT, "emptyDir": st.just({})}), max_size=1),
        "containers": st.lists(st.fixed_dictionaries({"name": _TEXT, "image": _TEXT}), min_size=2, max_size=3),
    },
)


@given(labels=_LABELS, annotations=_LABELS, mine=_MINE, transformer=st.none() | _LABELS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_yours_stays(
    labels: Any, annotations: Any, mine: Any, transformer: Any, deployment: Path, tmp_path: Path
) -> None:
    """All but the router's container, its volumes and what it says of itself is as it was; twice is as once."""
    plan = DeploymentDirectory.open(deployment).plan
    metadata = {"name": "mine", "labels": labels, "annotations": annotations}
    content = {"metadata": metadata, "spec": {"predictor": mine, "transformer": transformer}}
    head = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}

    def routed(manifest: Any) -> Any:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(manifest))
        options = KserveOptions.model_validate({**MODELS, "from": tmp_path / "mine.yaml"})
        return inference_service(plan, "mine", "image:1", {"name": "plan"}, [], options, Part(need_of_all(plan)))

    found = routed({**head, **content})
    assert found["metadata"]["labels"] == labels
    assert found["metadata"]["annotations"].items() >= annotations.items()
    assert found["spec"]["transformer"] == transformer
    predictor = found["spec"]["predictor"]
    for name, value in mine.items():
        if name in ("containers", "volumes"):
            assert [item for item in predictor[name] if item in value] == value
        else:
            assert predictor[name] == value
    assert routed(found) == found


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("kind: Deployment", "found Deployment"),
        ("[1, 2]", "found list"),
        ("a: [", "can't be read as YAML"),
        (f"{{{V1BETA1}, metadata: [a]}}", "as metadata, expected a mapping"),
        (f"{{{V1BETA1}, spec: {{predictor: sklearn}}}}", "'sklearn' as spec.predictor, expected a mapping"),
        (
            f"{{{V1BETA1}, spec: {{predictor: {{containers: {{a: 1}}}}}}}}",
            "as spec.predictor.containers, expected a list",
        ),
        (f"{{{V1BETA1}, spec: {{predictor: {{volumes: [x]}}}}}}", r"as spec.predictor.volumes\[0\], expected a map"),
        (
            f"{{{V1BETA1}, spec: {{predictor: {{model: {{env: oops}}}}}}}}",
            "'oops' as spec.predictor.model.env, expected a list",
        ),
        (
            f"{{{V1BETA1}, spec: {{predictor: {{containers: [{{volumeMounts: [x]}}]}}}}}}",
            r"'x' as spec.predictor.containers\[0\].volumeMounts\[0\], expected a mapping",
        ),
        (
            f"{{{V1BETA1}, spec: {{transformer: {{minReplicas: two}}}}}}",
            "'two' as spec.transformer.minReplicas, expected a whole number",
        ),
        (
            f"{{{V1BETA1}, metadata: {{name: 3}}}}",
            "'3' as metadata.name, expected text",
        ),
        ("{apiVersion: serving.kserve.io/v1alpha2, kind: InferenceService}", "apiVersion serving.kserve.io/v1alpha2"),
    ],
)
def test_another_file_than_a_manifest_is_refused(content: str, found: str, deployment: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(InvalidInput, match=found):
        generate(deployment, "kserve", tmp_path / "to", {**MODELS, "from": str(tmp_path / "mine.yaml")})


def test_a_token_is_taken_from_a_secret_where_there_is_one(deployment: Path, tmp_path: Path) -> None:
    generate(deployment, "kserve", tmp_path / "to", MODELS)
    (container,) = _manifest(tmp_path / "to")["spec"]["predictor"]["containers"]
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "line-token", "key": "token", "optional": True}


def test_what_is_learned_may_be_shared_and_its_password_is_a_secrets(deployment: Path, tmp_path: Path) -> None:
    shared = {
        "learning": "redis://:$(PASSWORD)@redis:6379/0",
        "decisions": "http://broker.events/",
        "env_secret": "redis",
    }
    generate(deployment, "kserve", tmp_path / "to", {**MODELS, **shared})
    (container,) = _manifest(tmp_path / "to")["spec"]["predictor"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "redis"}}]
    told = dict(zip(container["args"], container["args"][1:], strict=False))
    assert (told["--learning"], told["--decisions"]) == (shared["learning"], shared["decisions"])
    packages = {path.name for path in (tmp_path / "to" / "image" / "packages").iterdir()}
    assert packages >= {"lepton_redis", "lepton_cloudevents"}
    assert "lepton_files" not in packages
    assert any(line.startswith("redis==") for line in (tmp_path / "to/image/requirements.txt").read_text().splitlines())
    for learning in ("redis://:hunter2@redis:6379/0", "redis://redis:6379/0?password=hunter2"):
        with pytest.raises(InvalidInput, match="found a password in the address") as caught:
            generate(deployment, "kserve", tmp_path / "no", {**MODELS, "learning": learning})
        assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidInput, match="scheme 'ftp'"):
        generate(deployment, "kserve", tmp_path / "no", {**MODELS, "decisions": "ftp://host/x"})


def test_a_manifest_that_kserve_would_refuse_is_not_written(deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="minReplicas 3 and maxReplicas 2"):
        generate(deployment, "kserve", tmp_path / "to", {**MODELS, "min_replicas": 3, "max_replicas": 2})
    assert not (tmp_path / "to").exists()


def test_a_source_that_a_cluster_cannot_pull_says_what_to_do(deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceNotPullable, match="--upload s3://bucket/models"):
        generate(deployment, "kserve", tmp_path / "to", {})
    for name in ("Flights_Model", "a" * 54):
        with pytest.raises(InvalidInput, match="--name"):
            generate(deployment, "kserve", tmp_path / "to", {**MODELS, "name": name})


@pytest.mark.parametrize(
    ("address", "pullable"),
    [
        ("s3://bucket/a/b", True),
        ("gs://bucket/a", True),
        ("pvc://claim/a", True),
        ("https://account.blob.core.windows.net/container/a", True),
        ("https://example.com/model.zip", False),
        ("/srv/mlruns/1", False),
        ("file:///srv/mlruns/1", False),
        ("mlflow-artifacts:/1/models/m-1/artifacts", False),
        ("models:/flights/1", False),
        ("s3://key:secret@bucket/a", False),
        ("https://account.blob.core.windows.net/c/a?sig=secret", False),
    ],
)
def test_which_addresses_a_cluster_pulls(address: str, pullable: bool) -> None:
    assert is_pullable(address) is pullable


def test_the_predictors_process_answers_v1_and_v2(
    rendered: Path, deployment: Path, bare_environment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The container's own command on the pod's mounts, where nothing of Lepton is installed."""
    _answers_v1_and_v2([], rendered, deployment, bare_environment, tmp_path, monkeypatch)


def test_the_predictor_runs_as_a_restricted_container(
    contained: Any, rendered: Path, deployment: Path, bare_environment: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Read-only root, a user other than root, no capabilities: only the state's volume is writable."""
    (tmp_path / "state").mkdir()
    before = contained(tmp_path / "state")
    probe = subprocess.run([*before, "sh", "-c", "id -u; touch here"], cwd=tmp_path, capture_output=True, check=False)
    assert probe.stdout == b"1000\n"
    assert b"Read-only file system" in probe.stderr
    _answers_v1_and_v2(before, rendered, deployment, bare_environment, tmp_path, monkeypatch)


def _answers_v1_and_v2(
    before: list[str],
    rendered: Path,
    deployment: Path,
    bare_environment: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pod = _mounted(rendered, deployment, tmp_path)
    (container,) = yaml.safe_load((rendered / "inferenceservice.yaml").read_text())["spec"]["predictor"]["containers"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    places = {"python": bare_environment.python, "/mnt": str(pod), "8080": port}
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


def _manifest(rendered: Path) -> Any:
    return yaml.safe_load((rendered / "inferenceservice.yaml").read_text())


def _mounted(rendered: Path, deployment: Path, tmp_path: Path) -> Path:
    """What the storage initializer and the ConfigMap make of /mnt."""
    config = yaml.safe_load((rendered / "plan.yaml").read_text())
    pod = tmp_path / "mnt"
    shutil.copytree(deployment / "models", pod / "models")
    (pod / "plan.json").write_text(config["data"]["plan.json"])
    (tmp_path / "state").mkdir(exist_ok=True)
    return pod
