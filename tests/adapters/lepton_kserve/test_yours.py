"""A manifest that you have (`--from`): what is yours stays, what is the cluster's or the model's goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton_kserve.manifest import inference_service
from lepton_kserve.options import KserveOptions
from lepton_kserve.part import Part
from lepton_plugins.errors import InvalidInput
from lepton_plugins.generate import generate
from lepton_plugins.needs import need_of_all
from lepton_plugins.routing.directory import DeploymentDirectory

MODELS = {"models": "s3://bucket/models"}
V1BETA1 = "apiVersion: serving.kserve.io/v1beta1, kind: InferenceService"


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


def test_a_manifest_of_a_cluster_loses_what_is_the_clusters(
    deployment: Path, tmp_path: Path, check: Any, manifest_of: Any
) -> None:
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
    manifest = manifest_of(tmp_path / "to")
    check(manifest)
    assert manifest["metadata"]["finalizers"] == ["team/ticket"]
    assert "ownerReferences" not in manifest["metadata"]
    assert "workerSpec" not in manifest["spec"]["predictor"]
    context = manifest["spec"]["predictor"]["containers"][0]["securityContext"]
    assert not {"runAsUser", "privileged"} & set(context)


@pytest.mark.parametrize("name", ["kserve-container", "my-model", None])
def test_a_lone_container_is_the_models(
    name: str | None, deployment: Path, tmp_path: Path, check: Any, manifest_of: Any
) -> None:
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
    manifest = manifest_of(tmp_path / "to")
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
