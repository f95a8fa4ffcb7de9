"""Topology × deployment mode × devices × autoscaler: every member passes the CRD's schema and the webhook's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lepton_kserve.rules import findings
from lepton_kserve.target import KserveTarget
from lepton_plugins.errors import InvalidInput
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.resources import ResourceSpec
from lepton_plugins.routing.directory import DeploymentDirectory, write_plan
from lepton_plugins.testing import write_deployment

GIB = 2**30
SMALL: dict[str, Any] = {"nodes": 6, "cpu": 8, "memory": "32Gi", "labels": {"pool": "small"}}
LARGE: dict[str, Any] = {
    "nodes": 3,
    "cpu": 16,
    "memory": "64Gi",
    "gpu": 2,
    "gpu_memory": "40Gi",
    "labels": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
#: By the name of a form of devices: what the pool says, what the options say, and the resource that comes of it.
DEVICES: dict[str, tuple[dict[str, str], dict[str, str], str | None]] = {
    "none": ({}, {}, None),
    "whole": ({}, {}, "nvidia.com/gpu"),
    "mig-of-the-pool": ({"gpu_key": "nvidia.com/mig-3g.20gb"}, {}, "nvidia.com/mig-3g.20gb"),
    "mig-by-advice": ({}, {"accelerator": "nvidia-a100-40gb"}, "nvidia.com/mig-2g.10gb"),
    "claim-of-the-pool": ({"device_class": "gpu.nvidia.com"}, {}, None),
    "claim": ({}, {"device_class": "mig.nvidia.com"}, None),
}
#: By the name of an autoscaler: its mode, the options, and what one version's service scales on.
SCALERS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "hpa": ("Standard", {}, {"scaleMetric": "cpu", "scaleTarget": 80}),
    "hpa-memory": ("Standard", {"autoscaler": "hpa", "scale_on": "memory"}, {"scaleMetric": "memory"}),
    "keda-cpu": ("Standard", {"autoscaler": "keda"}, {}),
    "keda-rps": ("Standard", {"autoscaler": "keda", "prometheus": "http://prometheus:9090"}, {}),
    "none": ("Standard", {"autoscaler": "none"}, {}),
    "knative-rps": ("Knative", {}, {"scaleMetric": "rps", "scaleTarget": 32}),
    "knative-concurrency": ("Knative", {"scale_on": "concurrency"}, {"scaleMetric": "concurrency", "scaleTarget": 2}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matrix") / "deployment"
    write_deployment(folder)
    return folder


def planned(folder: Path, topology: str, *, gpu: bool, pool: dict[str, str]) -> DeploymentPlan:
    """The folder's plan as it would be on two pools; version 2 on the large one, with a device where asked."""
    found = DeploymentDirectory.open(folder).plan
    pools = {"small": SMALL, "large": LARGE | pool}
    given = {"load": "200/s", "batch": 5, "headroom": 0.25, "replica_cpu": 2, "pools": pools}
    places = ("large", "large") if topology == "embedded" else ("small", "large")
    arms = tuple(
        arm.model_copy(
            update={
                "resources": arm.resources.model_copy(
                    update={
                        "replicas": 2,
                        "pools": {place: 2},
                        "cpu": 4.0,
                        "memory": 4 * GIB,
                        "gpu": 2.0 if gpu and arm.version == "2" else None,
                        "gpu_memory": 16 * GIB if gpu and arm.version == "2" else None,
                        "throughput": 200.0 if topology == "distributed" else None,
                    }
                )
            }
        )
        for arm, place in zip(found.arms, places, strict=True)
    )
    spec = found.spec.model_copy(update={"resources": ResourceSpec.model_validate(given)})
    plan = found.model_copy(update={"arms": arms, "spec": spec, "topology": topology})
    write_plan(plan, {}, folder)
    return plan


def rendered(plan: DeploymentPlan, folder: Path, to: Path, **options: str) -> dict[str, dict[str, Any]]:
    """The manifests by kind and name."""
    given = {"models": "s3://b/m", "name": "late", "namespace": "ml", "lepton_requirement": "lepton-plugins==0.1.0"}
    to.mkdir()
    KserveTarget().render(plan, folder, to, KserveTarget.Options.model_validate({**given, **options}))
    found = [yaml.safe_load(path.read_text()) for path in to.rglob("*.yaml") if path.name != "kustomization.yaml"]
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in found}


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("topology", ["embedded", "distributed"])
def test_every_member_is_admitted_whole(
    topology: str, devices: str, scaler: str, folder: Path, tmp_path: Path, check: Any
) -> None:
    of_pool, of_options, key = DEVICES[devices]
    mode, scaling, expected = SCALERS[scaler]
    plan = planned(folder, topology, gpu=devices != "none", pool=of_pool)
    options = {"mode": mode, **of_options, **scaling}
    if mode == "Knative" and devices.startswith("claim"):
        with pytest.raises(InvalidInput, match="in Knative mode, which refuses claims"):
            rendered(plan, folder, tmp_path / "to", **options)
        return
    found = rendered(plan, folder, tmp_path / "to", **options)
    services = {name.partition("/")[2]: item for name, item in found.items() if name.startswith("InferenceService/")}
    assert set(services) == ({"late"} if topology == "embedded" else {"late", "late-v1", "late-v2"})
    for service in services.values():
        check(service)
        assert findings(service) == []
        assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == mode
    heavy = services["late" if topology == "embedded" else "late-v2"]["spec"]["predictor"]
    assert heavy["nodeSelector"] == {"pool": "gpu"}
    assert heavy["tolerations"] == LARGE["tolerations"]
    _has_its_devices(heavy, found, devices, key)
    light = services["late-v1"]["spec"]["predictor"] if topology == "distributed" else heavy
    if topology == "distributed":
        assert light["nodeSelector"] == {"pool": "small"}
        assert "nodeSelector" not in services["late"]["spec"]["predictor"], "the router runs anywhere"
        limits = {
            name: item["spec"]["predictor"]["containers"][0]["resources"]["limits"] for name, item in services.items()
        }
        assert not any("/" in resource for name in ("late", "late-v1") for resource in limits[name])
        assert light["minReplicas"] == 2
        assert light["maxReplicas"] == (2 if scaler == "none" else 24), (
            "six nodes hold four replicas each, by the cores"
        )
        assert {name: light.get(name) for name in expected} == expected
        _keda(light, scaler, "late-v1", 32)


def _has_its_devices(predictor: dict[str, Any], found: dict[str, Any], devices: str, key: str | None) -> None:
    resources = predictor["containers"][0]["resources"]
    given = {name: count for name, count in resources["limits"].items() if "/" in name}
    claims = [item for name, item in found.items() if name.startswith("ResourceClaimTemplate/")]
    if not devices.startswith("claim"):
        assert given == ({} if key is None else {key: "1"})
        assert claims == []
        return
    assert given == {}
    (template,) = claims
    (claim,) = predictor["resourceClaims"]
    assert claim["resourceClaimTemplateName"] == template["metadata"]["name"]
    assert resources["claims"] == [{"name": claim["name"]}]
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"]["count"] == 1
    assert request["exactly"]["deviceClassName"].endswith(".nvidia.com")
    assert "quantity('8192Mi')" in request["exactly"]["selectors"][0]["cel"]["expression"]


@pytest.mark.parametrize("topology", ["embedded", "distributed"])
def test_the_image_of_a_version_on_a_gpu_has_what_uses_it(topology: str, folder: Path, tmp_path: Path) -> None:
    plan = planned(folder, topology, gpu=True, pool={})
    rendered(plan, folder, tmp_path / "to")
    of_gpu, of_cpu = ("services/late-v2", "services/late-v1") if topology == "distributed" else (".", None)
    lines = (tmp_path / "to" / of_gpu / "image" / "requirements.txt").read_text()
    assert "onnxruntime-gpu==" in lines
    assert "onnxruntime==" not in lines
    if of_cpu is not None:
        assert "onnxruntime==" in (tmp_path / "to" / of_cpu / "image" / "requirements.txt").read_text()
    options = KserveTarget.Options.model_validate({})
    told = KserveTarget().finish(plan, tmp_path / "to", tmp_path / "to", options)
    assert "--base-image" in told["note"]
    assert told["next"].count("docker build") == (3 if topology == "distributed" else 1)


def test_the_claims_template_is_one_of_kubernetes(folder: Path, tmp_path: Path) -> None:
    """Its own client reads every field of it."""
    client = pytest.importorskip("kubernetes.client")
    plan = planned(folder, "distributed", gpu=True, pool={"device_class": "gpu.nvidia.com"})
    found = rendered(plan, folder, tmp_path / "to")
    (template,) = [item for name, item in found.items() if name.startswith("ResourceClaimTemplate/")]
    assert template["metadata"]["name"].startswith("late-v2-gpu-")
    api = client.ApiClient()
    read = api.deserialize(json.dumps(template), "V1ResourceClaimTemplate", "application/json")
    assert api.sanitize_for_serialization(read) == template


def _keda(predictor: dict[str, Any], scaler: str, name: str, requests: int) -> None:
    metrics = predictor.get("autoScaling", {}).get("metrics")
    if scaler == "keda-cpu":
        target = {"type": "Utilization", "averageUtilization": 80}
        assert metrics == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    elif scaler == "keda-rps":
        (metric,) = metrics
        assert metric["external"]["target"] == {"type": "Value", "value": str(requests)}
        assert f'namespace="ml",pod=~"{name}-predictor-.*"' in metric["external"]["metric"]["query"]
    else:
        assert metrics is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "Knative", "autoscaler": "keda"}, "--autoscaler keda: found it in Knative mode"),
        ({"scale_on": "rps"}, "--scale-on rps: hpa can't look at that; expected one of cpu, memory"),
        ({"autoscaler": "keda", "scale_on": "rps"}, "expected --prometheus"),
        ({"accelerator": "nvidia-a100"}, "nvidia-a100-40gb"),
        ({"accelerator": "nvidia-t4", "scale_on": "cpu"}, None),
    ],
)
def test_what_cannot_be_is_told(options: dict[str, str], said: str | None, folder: Path, tmp_path: Path) -> None:
    plan = planned(folder, "distributed", gpu=True, pool={})
    if said is None:
        predictor = rendered(plan, folder, tmp_path / "to", **options)["InferenceService/late-v2"]["spec"]["predictor"]
        assert predictor["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1", "half of one: no profile"
        return
    with pytest.raises(InvalidInput) as caught:
        rendered(plan, folder, tmp_path / "to", **options)
    assert said in str(caught.value)


def test_a_version_that_no_device_holds_is_an_error(folder: Path, tmp_path: Path) -> None:
    plan = planned(folder, "distributed", gpu=True, pool={})
    two = plan.arms[1].model_copy(
        update={"resources": plan.arms[1].resources.model_copy(update={"gpu_memory": 64 * GIB})}
    )
    plan = plan.model_copy(update={"arms": (plan.arms[0], two)})
    write_plan(plan, {}, folder)
    with pytest.raises(InvalidInput, match=r"late-v2: it needs .* more than one device has"):
        rendered(plan, folder, tmp_path / "to", accelerator="nvidia-t4")


def test_a_version_on_several_pools_runs_on_the_nodes_of_each(folder: Path, tmp_path: Path, check: Any) -> None:
    plan = planned(folder, "distributed", gpu=False, pool={})
    both = plan.arms[0].resources.model_copy(update={"replicas": 3, "pools": {"small": 2, "large": 1}})
    survive = plan.spec.resources.model_copy(update={"survive": "node"})
    changes = {
        "arms": (plan.arms[0].model_copy(update={"resources": both}), plan.arms[1]),
        "spec": plan.spec.model_copy(update={"resources": survive}),
    }
    plan = plan.model_copy(update=changes)
    write_plan(plan, {}, folder)
    found = rendered(plan, folder, tmp_path / "to")
    service = found["InferenceService/late-v1"]
    check(service)
    affinity = service["spec"]["predictor"]["affinity"]
    terms = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [term["matchExpressions"][0]["values"] for term in terms] == [["gpu"], ["small"]]
    assert "podAntiAffinity" in affinity
    router = found["InferenceService/late"]["spec"]["predictor"]
    assert router["minReplicas"] == 2, "the router survives a node, too"
    assert "podAntiAffinity" in router["affinity"]
    mixed = planned(folder, "distributed", gpu=True, pool={"gpu_key": "nvidia.com/mig-1g.5gb"})
    two = mixed.arms[1].resources.model_copy(update={"pools": {"small": 1, "large": 1}})
    mixed = mixed.model_copy(update={"arms": (mixed.arms[0], mixed.arms[1].model_copy(update={"resources": two}))})
    write_plan(mixed, {}, folder)
    with pytest.raises(InvalidInput, match=r"another gpu_key on each .*a version's pods are alike"):
        rendered(mixed, folder, tmp_path / "mixed")
