"""The InferenceService: KServe's v1beta1 API, a custom predictor that runs the data plane.

It is the router with all versions, the router before services, or the service of one version: a `Part`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lepton_kserve import scheduling
from lepton_kserve.autoscaling import Scaling
from lepton_kserve.container import (
    GRACE_PERIOD,
    MODELS,
    PORT,
    container,
    container_security,
    lingering,
    merged,
    pod_security,
)
from lepton_kserve.options import KserveOptions
from lepton_kserve.part import Part
from lepton_kserve.rollout import is_knative, workload_name
from lepton_kserve.rules import MODE
from lepton_kserve.sources import folders, storage_uri
from lepton_kserve.yours import take_out_model, your_manifest
from lepton_plugins.records.plan import DeploymentPlan

#: No address outside the cluster: in Standard mode, and in Knative's.
_INTERNAL = {"networking.kserve.io/visibility": "cluster-local", "networking.knative.dev/visibility": "cluster-local"}


def inference_service(
    plan: DeploymentPlan,
    name: str,
    image: str,
    plan_volume: Mapping[str, Any],
    mounts: Sequence[Mapping[str, Any]],
    o: KserveOptions,
    part: Part,
) -> dict[str, Any]:
    """The manifest of a plan; what `o.manifest` holds stays unless the router needs it otherwise."""
    mine = your_manifest(o.manifest)
    metadata = mine.setdefault("metadata", {})
    metadata["name"] = name
    if o.namespace is not None:
        metadata["namespace"] = o.namespace
    if part.router is not None:
        metadata["labels"] = {**_INTERNAL, **(metadata.get("labels") or {})}
    annotations = metadata["annotations"] = dict(metadata.get("annotations") or {})
    annotations[MODE] = o.mode or annotations.get(MODE, "Standard")
    annotations |= {
        **part.said,
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": str(PORT),
        "prometheus.io/scrape": "true",
        "prometheus.kserve.io/path": "/metrics",
        "prometheus.kserve.io/port": str(PORT),
        "serving.kserve.io/enable-prometheus-scraping": "true",
    }
    spec = mine["spec"] = dict(mine.get("spec") or {})
    predictor = spec["predictor"] = dict(spec.get("predictor") or {})
    replaced = take_out_model(predictor, MODELS)
    if part.apart:
        replaced.pop("resources", None)  # Of a model that runs elsewhere now.
    if storage := _storage(plan, o.upload or o.models, part.apart):
        predictor["storageUris"] = storage
    # Knative takes no securityContext of a pod unless that feature is switched on.
    of_the_pod = "securityContext" in predictor or not is_knative(mine)
    answering = container(plan, name, image, mounts, o, part, _hosts(mine, o), replaced)
    if not is_knative(mine):
        answering.setdefault("lifecycle", lingering())
        predictor.setdefault("terminationGracePeriodSeconds", GRACE_PERIOD)
    answering["securityContext"] = container_security(replaced.get("securityContext") or {}, alone=not of_the_pod)
    predictor["containers"] = [answering, *(predictor.get("containers") or ())]
    own = [dict(plan_volume), {"name": "state", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    predictor["volumes"] = merged("name", predictor.get("volumes"), own)
    predictor.setdefault("automountServiceAccountToken", False)
    if of_the_pod:
        predictor["securityContext"] = pod_security(predictor.get("securityContext") or {})
    if o.service_account is not None:
        predictor["serviceAccountName"] = o.service_account
    scheduling.place(predictor, part.need, name)
    namespace = metadata.get("namespace")
    scaling = Scaling(part.need, part.headroom, name, namespace, o, annotations, knative=is_knative(mine))
    scaling.scale(predictor)
    return mine


def _storage(plan: DeploymentPlan, models: str | None, apart: frozenset[str]) -> list[dict[str, str]]:
    return [
        {"uri": storage_uri(arm, folder, models), "mountPath": f"{MODELS}/{folder}"}
        for folder, arm in folders(plan).items()
        if arm.artifact_digest not in apart
    ]


def _hosts(service: Mapping[str, Any], o: KserveOptions) -> list[str]:
    """The names of the predictor's Service in the cluster, and those of yours."""
    name, namespace = workload_name(service), service["metadata"].get("namespace")
    inside = [f"{name}.{namespace}{suffix}" for suffix in ("", ".svc", ".svc.cluster.local")] if namespace else []
    yours = [host.strip() for host in o.allowed_hosts.split(",") if host.strip()]
    return [name, *inside, *(host for host in yours if host not in (name, *inside))]
