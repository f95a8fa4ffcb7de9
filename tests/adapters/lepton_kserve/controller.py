"""What KServe's controller does to an InferenceService on the API server of the tests, in Standard mode.

Source: KServe `pkg/controller/v1beta1/inferenceservice` (controller.go: finalizer; deployment_reconciler.go: the
Deployment NAME-predictor) and `inference_service_status.go` (PropagateRawStatus: observedGeneration is the
Deployment's, Ready is True as long as it is available, also while its pods are replaced).
"""

from __future__ import annotations

import copy
import time
from typing import Any

FINALIZER = "inferenceservice.finalizers"
Key = tuple[str, str, str]


def deployment(service: dict[str, Any]) -> dict[str, Any]:
    """The Deployment of a service without its status: the pod has what the predictor has and a variable more."""
    predictor, name = copy.deepcopy(service["spec"]["predictor"]), f"{service['metadata']['name']}-predictor"
    container = predictor["containers"][0]
    container["env"] = [*container.get("env", []), {"name": "INFERENCE_SERVICE_NAME", "value": name}]
    metadata = {"name": name, "namespace": service["metadata"]["namespace"]}
    owner = {key: service["metadata"][key] for key in ("name", "uid")}
    owner |= {"apiVersion": service["apiVersion"], "kind": service["kind"], "controller": True}
    pod = {key: predictor[key] for key in ("containers", "volumes") if key in predictor}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**metadata, "ownerReferences": [owner]},
        "spec": {"replicas": predictor.get("minReplicas", 1), "template": {"spec": pod}},
    }


def pods(wanted: int, *, new: int) -> dict[str, int]:
    """Replicas as a Deployment's status has them while `new` of them run what is wanted."""
    return {"replicas": wanted, "updatedReplicas": new, "readyReplicas": wanted, "availableReplicas": wanted}


def control(server: Any, key: Key) -> None:
    """Bring the cluster to what the service says now, `server.ready` seconds later; None: its image isn't found."""
    with server.changed:
        if key not in server.objects:
            return
        service = server.objects[key]
        if "deletionTimestamp" in service["metadata"]:
            return
        if FINALIZER not in service["metadata"].get("finalizers", []):
            service = copy.deepcopy(service)
            service["metadata"]["finalizers"] = [FINALIZER]
            server.store(key, service, "MODIFIED")
        below = ("deployments", key[1], f"{key[2]}-predictor")
        made = deployment(service)
        live = server.objects.get(below)
        if live is None or live["spec"]["template"] != made["spec"]["template"]:
            generation = 1 if live is None else live["metadata"]["generation"] + 1
            made["metadata"] |= {"generation": generation, "uid": f"uid-{below[2]}"}
            made["status"] = {"observedGeneration": generation, **pods(made["spec"]["replicas"], new=0)}
            server.store(below, made, "ADDED" if live is None else "MODIFIED")
        wanted = server.objects[below]["metadata"]["generation"]
    time.sleep(0.1 if server.ready is None else server.ready)
    with server.changed:
        if key not in server.objects or server.objects[below]["metadata"]["generation"] != wanted:
            return
        ready = {"type": "Ready", "status": "True"}
        if server.ready is None:
            ready = {"type": "Ready", "status": "False", "reason": "RevisionFailed", "message": "ImagePullBackOff"}
        else:
            done = copy.deepcopy(server.objects[below])
            done["status"] |= pods(done["spec"]["replicas"], new=done["spec"]["replicas"])
            server.store(below, done, "MODIFIED")
        service = copy.deepcopy(server.objects[key])
        service["status"] = {"observedGeneration": wanted, "conditions": [ready], "url": server.url}
        service["status"]["deploymentMode"] = "Standard"
        server.store(key, service, "MODIFIED")


def finalize(server: Any, key: Key) -> None:
    """Let go of a service that is deleted."""
    time.sleep(0.1)
    with server.changed:
        if key in server.objects:
            service = copy.deepcopy(server.objects[key])
            service["metadata"]["finalizers"].remove(FINALIZER)
            server.gone_for_good(key, service)
