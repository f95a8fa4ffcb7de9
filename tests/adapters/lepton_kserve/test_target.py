"""The target `kserve`: manifests that a cluster takes, and what they are made of."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lepton_kserve.plan_map import plan_map
from lepton_kserve.sources import is_pullable
from lepton_kserve.target import KserveTarget
from lepton_plugins.errors import InvalidInput, ManifestInvalid, SourceNotPullable
from lepton_plugins.generate import generate
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.testing import TargetContract

MODELS = {"models": "s3://bucket/models"}


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


def test_a_pod_ends_when_nobody_sends_to_it_any_more(
    manifest: dict[str, Any], deployment: Path, tmp_path: Path, manifest_of: Any
) -> None:
    """Services learn of its end while it is told of it; then requests in flight have 30 s."""
    predictor = manifest["spec"]["predictor"]
    (container,) = predictor["containers"]
    started = time.monotonic()
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    subprocess.run([sys.executable, *command[1:]], check=True)
    lingers = time.monotonic() - started
    assert 5 <= lingers < predictor["terminationGracePeriodSeconds"] - 45
    generate(deployment, "kserve", tmp_path / "to", {**MODELS, "mode": "Knative"})
    served = manifest_of(tmp_path / "to")["spec"]["predictor"]
    assert "terminationGracePeriodSeconds" not in served
    assert "lifecycle" not in served["containers"][0]


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


def test_knative_takes_no_security_context_of_a_pod(deployment: Path, tmp_path: Path, manifest_of: Any) -> None:
    """Its feature podspec-securitycontext is off by default: the container has all that "restricted" asks."""
    generate(deployment, "kserve", tmp_path / "to", {**MODELS, "mode": "Knative"})
    predictor = manifest_of(tmp_path / "to")["spec"]["predictor"]
    assert "securityContext" not in predictor
    context = predictor["containers"][0]["securityContext"]
    assert (context["runAsUser"], context["runAsNonRoot"]) == (1000, True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    again = tmp_path / "to" / "inferenceservice.yaml"
    generate(deployment, "kserve", tmp_path / "again", {**MODELS, "from": str(again)})
    assert (tmp_path / "again" / "inferenceservice.yaml").read_bytes() == again.read_bytes()


def test_a_token_is_taken_from_a_secret_where_there_is_one(deployment: Path, tmp_path: Path, manifest_of: Any) -> None:
    generate(deployment, "kserve", tmp_path / "to", MODELS)
    (container,) = manifest_of(tmp_path / "to")["spec"]["predictor"]["containers"]
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "line-token", "key": "token", "optional": True}


def test_what_is_learned_may_be_shared_and_its_password_is_a_secrets(
    deployment: Path, tmp_path: Path, manifest_of: Any
) -> None:
    shared = {
        "learning": "redis://:$(PASSWORD)@redis:6379/0",
        "decisions": "http://broker.events/",
        "env_secret": "redis",
    }
    generate(deployment, "kserve", tmp_path / "to", {**MODELS, **shared})
    (container,) = manifest_of(tmp_path / "to")["spec"]["predictor"]["containers"]
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
