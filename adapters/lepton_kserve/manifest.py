"""The InferenceService: KServe's v1beta1 API, a custom predictor that runs the data plane.

It is the router with all versions, the router before services, or the service of one version: a `Part`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from lepton_kserve import scheduling
from lepton_kserve.autoscaling import scale
from lepton_kserve.image import USER
from lepton_kserve.options import KserveOptions
from lepton_kserve.rollout import CONTAINER, is_knative, workload_name
from lepton_kserve.rules import MODE, STANDARD, STORAGE_URI
from lepton_kserve.shape import misshapen, without_nulls
from lepton_kserve.sources import folders, storage_uri
from lepton_plugins.errors import InvalidInput
from lepton_plugins.needs import Need
from lepton_plugins.records.plan import DeploymentPlan

PORT = 8080
#: The deployment directory in the pod; KServe's storage initializer fills MODELS.
DEPLOYMENT = "/mnt"
MODELS = f"{DEPLOYMENT}/models"
STATE = "/var/lib/lepton"

#: What a cluster writes into the manifests it shows; none of it belongs into Git.
_SERVER_SIDE = (
    *("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "managedFields"),
    *("ownerReferences", "resourceVersion", "selfLink", "uid"),
)
_FINALIZER = "inferenceservice.finalizers"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

#: What stays of the container that the router stands in for: how it is run, not what it runs.
_YOURS = (
    "env",
    "envFrom",
    "imagePullPolicy",
    "lifecycle",
    "resizePolicy",
    "resources",
    "securityContext",
    "volumeMounts",
)


#: No address outside the cluster: in Standard mode, and in Knative's.
_INTERNAL = {"networking.kserve.io/visibility": "cluster-local", "networking.knative.dev/visibility": "cluster-local"}


@dataclass(frozen=True, slots=True)
class Part:
    """What one InferenceService is of a deployment."""

    need: Need
    headroom: float = 0.0
    apart: frozenset[str] = frozenset()
    """Digests of the versions that services of their own run."""
    router: str | None = None
    """Of a version's service: the router before it."""
    alias: str | None = None
    """Of a version's service: the name that the router calls its model by."""
    said: Mapping[str, str] = field(default_factory=dict)
    """Annotations."""


def mode_of(o: KserveOptions) -> str:
    """The option's deployment mode, else your manifest's, else Standard."""
    yours = (_yours(o.manifest).get("metadata") or {}).get("annotations") or {}
    return o.mode or str(yours.get(MODE, "Standard"))


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
    mine = _yours(o.manifest)
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
    replaced = _replaced(predictor)
    if part.apart:
        replaced.pop("resources", None)  # Of a model that runs elsewhere now.
    if storage := _storage(plan, o.upload or o.models, part.apart):
        predictor["storageUris"] = storage
    # Knative takes no securityContext of a pod unless that feature is switched on.
    of_the_pod = "securityContext" in predictor or not is_knative(mine)
    container = _container(plan, name, image, mounts, o, part, _hosts(mine, o), replaced)
    container["securityContext"] = _container_security(replaced.get("securityContext") or {}, alone=not of_the_pod)
    predictor["containers"] = [container, *(predictor.get("containers") or ())]
    own = [dict(plan_volume), {"name": "state", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    predictor["volumes"] = _merged("name", predictor.get("volumes"), own)
    predictor.setdefault("automountServiceAccountToken", False)
    if of_the_pod:
        predictor["securityContext"] = _pod_security(predictor.get("securityContext") or {})
    if o.service_account is not None:
        predictor["serviceAccountName"] = o.service_account
    scheduling.place(predictor, part.need, name)
    namespace = metadata.get("namespace")
    scale(predictor, annotations, part.need, part.headroom, name, namespace, o, knative=is_knative(mine))
    return mine


def namespace_of(o: KserveOptions) -> str | None:
    """The option's, else that of your manifest."""
    found = o.namespace or (_yours(o.manifest).get("metadata") or {}).get("namespace")
    return None if found is None else str(found)


def name_of(plan: DeploymentPlan, o: KserveOptions) -> str:
    """The option's, else that of your manifest, else the model's."""
    return str(o.name or (_yours(o.manifest).get("metadata") or {}).get("name") or plan.model)


def _yours(manifest: Path | None) -> dict[str, Any]:
    """The user's manifest without what a cluster adds, or an empty InferenceService."""
    import yaml

    if manifest is None:
        return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"}
    try:
        content = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(f"--from {manifest}: can't be read as YAML: {str(error).splitlines()[0]}") from None
    found = content.get("kind") if isinstance(content, dict) else type(content).__name__
    if found != "InferenceService":
        raise InvalidInput(f"--from {manifest}: found {found}, expected one manifest of the kind InferenceService.")
    if content.get("apiVersion") != "serving.kserve.io/v1beta1":
        version = content.get("apiVersion")
        raise InvalidInput(f"--from {manifest}: found apiVersion {version}, expected serving.kserve.io/v1beta1.")
    mine: dict[str, Any] = content
    for place, there, expected in misshapen(mine):
        raise InvalidInput(f"--from {manifest}: found {str(there)[:60]!r} as {place}, expected {expected}.")
    mine.pop("status", None)
    metadata = mine["metadata"] = without_nulls(mine.get("metadata") or {})
    if isinstance(mine.get("spec"), dict):
        mine["spec"] = {part: without_nulls(item) for part, item in mine["spec"].items()}
    for key in _SERVER_SIDE:
        metadata.pop(key, None)
    if kept := [item for item in metadata.pop("finalizers", None) or () if item != _FINALIZER]:
        metadata["finalizers"] = kept
    (metadata.get("annotations") or {}).pop(_LAST_APPLIED, None)
    return mine


def _replaced(predictor: dict[str, Any]) -> dict[str, Any]:
    """Take out what the router stands in for; returns what of it stays."""
    found: dict[str, Any] = {}
    for kind in STANDARD:
        found |= predictor.pop(kind, None) or {}
    containers = predictor.pop("containers", None) or []
    if containers and not found and (len(containers) == 1 or not containers[0].get("name")):
        containers[0]["name"] = CONTAINER  # As KServe's webhook does.
    for container in containers:
        if container.get("name") == CONTAINER:
            found |= container
    if sidecars := [container for container in containers if container.get("name") != CONTAINER]:
        predictor["containers"] = sidecars
    for key in ("storageUris", "workerSpec"):  # The model's files, and its workers on further nodes.
        predictor.pop(key, None)
    if "env" in found:
        found["env"] = [item for item in found["env"] or () if item.get("name") != STORAGE_URI]
    if "volumeMounts" in found:  # Where its model was, the versions are.
        found["volumeMounts"] = [
            item for item in found["volumeMounts"] or () if not f"{item.get('mountPath')}/".startswith(f"{MODELS}/")
        ]
    return {key: found[key] for key in _YOURS if found.get(key)}


def _storage(plan: DeploymentPlan, models: str | None, apart: frozenset[str]) -> list[dict[str, str]]:
    return [
        {"uri": storage_uri(arm, folder, models), "mountPath": f"{MODELS}/{folder}"}
        for folder, arm in folders(plan).items()
        if arm.artifact_digest not in apart
    ]


def _container(
    plan: DeploymentPlan,
    name: str,
    image: str,
    mounts: Sequence[Mapping[str, Any]],
    o: KserveOptions,
    part: Part,
    hosts: Sequence[str],
    yours: Mapping[str, Any],
) -> dict[str, Any]:
    arguments = ["--deployment", DEPLOYMENT, "--port", str(PORT)]
    if part.alias is not None:  # The router keeps decisions and what is learned.
        arguments += ["--alias", part.alias]
    else:
        arguments += ["--decisions", o.decisions, "--learning", o.learning]
    if name != plan.model:
        arguments += ["--alias", name]  # Transformers and graphs call the model as the InferenceService.
    writable = [{"name": "state", "mountPath": STATE}, {"name": "tmp", "mountPath": "/tmp"}]
    return {
        **yours,
        "name": CONTAINER,
        "image": image,
        "command": ["python", "-m", "lepton_kserve.predictor"],
        "args": [*arguments, *(part for host in hosts for part in ("--allowed-host", host))],
        "env": _merged("name", yours.get("env"), [_token(part.router or name, o.token_secret)]),
        **_env_from(yours.get("envFrom"), o.env_secret),
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "livenessProbe": _probe("/v2/health/live", period=10, failures=3),
        "readinessProbe": _probe("/v2/health/ready", period=5, failures=3),
        "startupProbe": _probe("/v2/health/ready", period=2, failures=150),
        "resources": _resources(part.need, o, yours.get("resources")),
        "volumeMounts": _merged("mountPath", yours.get("volumeMounts"), [*mounts, *writable]),
    }


def _hosts(service: Mapping[str, Any], o: KserveOptions) -> list[str]:
    """The names of the predictor's Service in the cluster, and those of yours."""
    name, namespace = workload_name(service), service["metadata"].get("namespace")
    inside = [f"{name}.{namespace}{suffix}" for suffix in ("", ".svc", ".svc.cluster.local")] if namespace else []
    yours = [host.strip() for host in o.allowed_hosts.split(",") if host.strip()]
    return [name, *inside, *(host for host in yours if host not in (name, *inside))]


def _merged(key: str, yours: Any, own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The router's items, then those of yours that have another `key`."""
    taken = {item[key] for item in own}
    return [dict(item) for item in own] + [item for item in yours or () if item.get(key) not in taken]


def _token(name: str, secret: str | None) -> dict[str, Any]:
    """From a Secret: the one that is named must be there, the one by the service's own name may be."""
    reference: dict[str, Any] = {"name": secret or f"{name}-token", "key": "token"}
    if secret is None:
        reference["optional"] = True
    return {"name": "LEPTON_TOKEN", "valueFrom": {"secretKeyRef": reference}}


def _env_from(yours: Any, secret: str | None) -> dict[str, Any]:
    """Nothing where there is nothing: an empty list isn't the same to those who compare."""
    wanted = {"secretRef": {"name": secret}}
    found = [item for item in yours or () if item != wanted] + ([wanted] if secret is not None else [])
    return {"envFrom": found} if found else {}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PORT}, "periodSeconds": period, "failureThreshold": failures}


_CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def _container_security(yours: Mapping[str, Any], *, alone: bool) -> dict[str, Any]:
    """Pod Security "restricted"; `alone` it names the user, whom else the pod names."""
    kept = {key: value for key, value in yours.items() if key != "privileged" and (key, value) != ("runAsUser", 0)}
    return {**({"runAsGroup": USER, "runAsUser": USER} if alone else {}), **kept, **_CONTAINER_SECURITY}


def _pod_security(yours: Mapping[str, Any]) -> dict[str, Any]:
    """Pod Security "restricted"; the group lets the process write to its volumes. A user of yours stays, but root."""
    ours = {"fsGroup": USER, "runAsGroup": USER, "runAsUser": USER}
    kept = {key: value for key, value in yours.items() if not (key == "runAsUser" and value == 0)}
    return {**ours, **kept, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def _resources(need: Need, o: KserveOptions, yours: Any) -> dict[str, Any]:
    """Of one replica, but its devices: the option's, else your manifest's, else the plan's."""
    if yours and o.cpu is None and o.memory is None:
        return dict(yours)
    cpu, memory = o.cpu or need.cpu or 1.0, o.memory or need.memory or 2**30
    request = {"cpu": f"{ceil(cpu * 1000)}m", "memory": f"{ceil(memory / 2**20)}Mi"}
    return {"requests": request, "limits": dict(request)}
