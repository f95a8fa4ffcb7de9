"""When a deployment is there: all pods run what was applied; when it is gone: KServe has let go of it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lepton_kserve.deployer import KserveDeployer
from lepton_kserve.rollout import unfinished, workload_name
from lepton_plugins.errors import DeploymentNotFound, FieldsDropped, NotGoneInTime, NotReadyInTime
from lepton_plugins.records.resources import ResourceSpec
from lepton_plugins.testing import write_deployment

OPTIONS = {"image": "registry.example/line:1", "models": "s3://bucket/models", "timeout": "30"}
SERVICE = ("inferenceservices", "ml", "line")
DEPLOYMENT = ("deployments", "ml", "line-predictor")


@pytest.fixture
def deployer(api_server: Any) -> KserveDeployer:
    return KserveDeployer("ml")


def test_an_update_ends_when_no_pod_of_before_runs(deployer: Any, api_server: Any, deployment: Path) -> None:
    """KServe says Ready all the while: the pods of before are."""
    deployer.create("line", lambda: deployment, OPTIONS)
    api_server.ready = 1.0
    assert deployer.update("line", lambda: deployment, {**OPTIONS, "image": "registry.example/line:2"})["ready"]
    status = api_server.objects[DEPLOYMENT]["status"]
    assert status["updatedReplicas"] == status["replicas"]
    left = deployer.update("line", lambda: deployment, {**OPTIONS, "cpu": "2", "wait": "false"})
    assert left["ready"] is False
    assert api_server.objects[SERVICE]["status"]["conditions"] == [{"type": "Ready", "status": "True"}]
    api_server.ready = 60
    with pytest.raises(NotReadyInTime, match="line-predictor: 0 of 1 pods are new"):
        deployer.update("line", lambda: deployment, {**OPTIONS, "cpu": "3", "timeout": "1"})


def test_an_update_that_replaces_no_pod_ends_at_once(deployer: Any, api_server: Any, deployment: Path) -> None:
    """The service's generation grows, the Deployment's doesn't, and it is the Deployment's that KServe tells."""
    deployer.create("line", lambda: deployment, OPTIONS)
    found = deployer.update("line", lambda: deployment, {**OPTIONS, "max_replicas": "7", "timeout": "5"})
    assert found["ready"]
    live = api_server.objects[SERVICE]
    assert (live["metadata"]["generation"], live["status"]["observedGeneration"]) == (2, 1)


def test_who_may_not_see_deployments_goes_by_what_kserve_says(
    deployer: Any, api_server: Any, deployment: Path, other: Path
) -> None:
    api_server.unseen = {"deployments"}
    deployer.create("line", lambda: deployment, OPTIONS)
    assert deployer.update("line", lambda: other, OPTIONS)["ready"]
    maps = [key for key in api_server.objects if key[0] == "configmaps"]
    assert len(maps) == 2, "a pod of before may still mount the earlier one"


def test_a_router_before_services_is_one_deployment(deployer: Any, api_server: Any, tmp_path: Path) -> None:
    """Topology distributed: services are there before the router's new plan, and go when they or it aren't wanted."""
    plan = write_deployment(tmp_path / "apart")
    (tmp_path / "apart" / "plan.json").write_bytes(plan.model_copy(update={"topology": "distributed"}).content)
    made = deployer.create("line", lambda: tmp_path / "apart", OPTIONS)
    assert made["ready"]
    services = [key[2] for key in sorted(api_server.objects) if key[0] == "inferenceservices"]
    assert services == ["line", "line-v1", "line-v2"]
    assert [found["name"] for found in deployer.list()] == ["line"]
    api_server.requests.clear()
    assert deployer.update("line", lambda: tmp_path / "apart", {**OPTIONS, "image": "registry.example/line:2"})["ready"]
    patched = [
        path.rpartition("/")[2] for verb, path, _ in api_server.requests if verb == "PATCH" and "serving" in path
    ]
    assert list(dict.fromkeys(patched)) == ["line-v1", "line-v2", "line"]
    embedded = tmp_path / "embedded"
    write_deployment(embedded)
    deployer.update("line", lambda: embedded, OPTIONS)
    assert [key[2] for key in api_server.objects if key[0] == "inferenceservices"] == ["line"]
    deployer.update("line", lambda: tmp_path / "apart", OPTIONS)
    deployer.delete("line", {})
    wait_for(lambda: not api_server.objects)


def claiming(folder: Path, gigabytes: int) -> Path:
    """A deployment directory whose second version holds so much GPU memory on a device of its own."""
    plan = write_deployment(folder)
    pool = {"nodes": 1, "cpu": 16, "memory": "64Gi", "gpu": 1, "gpu_memory": "40Gi"}
    arms = tuple(
        arm.model_copy(
            update={
                "resources": arm.resources.model_copy(
                    update={"replicas": 1, "pools": {"gpu": 1}, "gpu": 1.0, "gpu_memory": gigabytes * 2**30}
                )
            }
        )
        if arm.version == "2"
        else arm
        for arm in plan.arms
    )
    resources = ResourceSpec.model_validate({"load": "9/s", "pools": {"gpu": pool}})
    spec = plan.spec.model_copy(update={"resources": resources})
    (folder / "plan.json").write_bytes(plan.model_copy(update={"arms": arms, "spec": spec}).content)
    return folder


def test_templates_of_claims_go_with_the_plan_that_needed_them(
    deployer: Any, api_server: Any, deployment: Path, tmp_path: Path
) -> None:
    def templates() -> list[str]:
        return [key[2] for key in sorted(api_server.objects) if key[0] == "resourceclaimtemplates"]

    claimed = {**OPTIONS, "device_class": "gpu.nvidia.com"}
    small, large = claiming(tmp_path / "small", 8), claiming(tmp_path / "large", 16)
    deployer.create("line", lambda: small, claimed)
    (first,) = templates()
    deployer.update("line", lambda: large, claimed)
    (second,) = templates()
    assert first != second
    predictor = api_server.objects[SERVICE]["spec"]["predictor"]
    assert [item["resourceClaimTemplateName"] for item in predictor["resourceClaims"]] == [second]
    deployer.update("line", lambda: deployment, OPTIONS)
    assert templates() == [], "a plan without devices leaves none behind"
    deployer.update("line", lambda: small, claimed)
    assert templates() == [first]
    # Who may not see templates brings none and leaves them; the service's own deletion takes them.
    api_server.unseen.add("resourceclaimtemplates")
    deployer.update("line", lambda: deployment, OPTIONS)
    assert templates() == [first]
    deployer.delete("line", {})
    wait_for(lambda: not api_server.objects)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """The garbage collector takes its time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def test_a_wait_outlives_an_api_server_that_starts_anew(deployer: Any, api_server: Any, deployment: Path) -> None:
    """At first it knows nobody's rights (403), then it says that it is starting (503)."""
    api_server.ready, api_server.cut, api_server.away = 1.5, 1, [403, 503]
    assert deployer.create("line", lambda: deployment, OPTIONS)["ready"]
    assert (api_server.cut, api_server.starting) == (0, [])


def test_who_may_read_and_not_watch_waits_as_well(deployer: Any, api_server: Any, deployment: Path) -> None:
    api_server.watchable, api_server.ready = False, 1.0
    assert deployer.create("line", lambda: deployment, OPTIONS)["ready"]


def test_delete_waits_until_it_is_gone(deployer: Any, api_server: Any, deployment: Path) -> None:
    deployer.create("line", lambda: deployment, OPTIONS)
    deployer.delete("line", {})
    assert SERVICE not in api_server.objects
    deployer.create("line", lambda: deployment, OPTIONS)
    api_server.finalize = lambda *_: None
    with pytest.raises(NotGoneInTime, match=r"after 1 s\. Held by inferenceservice\.finalizers, which its controller"):
        deployer.delete("line", {"timeout": "1"})
    with pytest.raises(DeploymentNotFound):
        deployer.get("other")


def test_a_field_that_an_old_cluster_would_drop_is_told(deployer: Any, api_server: Any, deployment: Path) -> None:
    """It says nothing and answers 200, also where it is asked to be strict."""
    api_server.strict = False
    del api_server.schema["properties"]["spec"]["properties"]["predictor"]["properties"]["storageUris"]
    with pytest.raises(
        FieldsDropped, match=r"would drop fields of the InferenceService 'line' .*: \.spec\.predictor\.sto"
    ):
        deployer.create("line", lambda: deployment, OPTIONS)
    assert api_server.objects == {}


def _service(**predictor: Any) -> dict[str, Any]:
    container = {
        "name": "kserve-container",
        "image": "line:1",
        "args": ["--port", "8080"],
        "env": [{"name": "A", "value": "1"}],
        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
    }
    volumes = [{"name": "plan", "configMap": {"name": "line-plan-1"}}]
    return {
        "metadata": {"name": "line", "namespace": "ml"},
        "spec": {"predictor": {"containers": [container], "volumes": volumes, **predictor}},
    }


def _deployment() -> dict[str, Any]:
    pod = copy.deepcopy(_service()["spec"]["predictor"])
    pod["containers"][0]["env"].append({"name": "INFERENCE_SERVICE_NAME", "value": "line"})
    pod["containers"][0]["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}}  # As a cluster writes them.
    pod["volumes"][0]["configMap"]["defaultMode"] = 420
    status = {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    return {
        "metadata": {"name": "line-predictor", "generation": 3},
        "spec": {"replicas": 2, "template": {"spec": pod}},
        "status": status,
    }


def test_a_deployment_that_is_done_is_what_the_service_says() -> None:
    assert unfinished(_service(), _deployment()) == ""


@pytest.mark.parametrize(
    ("place", "value", "found"),
    [
        (("status", "observedGeneration"), 2, "waiting for KServe to take it over"),
        (("status", "updatedReplicas"), 1, "1 of 2 pods are new"),
        (("status", "replicas"), 3, "1 pods of before still run"),
        (("status", "availableReplicas"), 1, "1 of 2 pods are available"),
        (("spec", "template", "spec", "containers", 0, "image"), "line:2", "waiting for KServe"),
        (("spec", "template", "spec", "containers", 0, "args"), ["--port"], "waiting for KServe"),
        (("spec", "template", "spec", "containers", 0, "env"), [], "waiting for KServe"),
        (("spec", "template", "spec", "containers", 0, "resources", "requests", "cpu"), "2", "waiting for KServe"),
        (("spec", "template", "spec", "volumes", 0, "configMap", "name"), "line-plan-0", "waiting for KServe"),
    ],
)
def test_what_a_deployment_lacks(place: tuple[Any, ...], value: Any, found: str) -> None:
    workload: Any = _deployment()
    part = workload
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    assert found in unfinished(_service(), workload)


def test_a_knative_service_says_itself_when_it_is_ready() -> None:
    service = _service()
    service["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "Knative"}
    workload = _deployment()
    workload["status"] = {"observedGeneration": 3, "conditions": [{"type": "Ready", "status": "Unknown"}]}
    assert unfinished(service, workload) == "line-predictor: the new revision isn't ready"
    workload["status"]["conditions"][0]["status"] = "True"
    assert unfinished(service, workload) == ""


def test_a_predictor_with_a_name_has_it_in_its_deployments() -> None:
    assert workload_name(_service(name="stable")) == "line-stable-predictor"
