"""The container that answers, and the rights of its pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from lepton_kserve.image import USER
from lepton_kserve.options import KserveOptions
from lepton_kserve.part import Part
from lepton_kserve.rollout import CONTAINER
from lepton_plugins.needs import Need
from lepton_plugins.records.plan import DeploymentPlan

PORT = 8080
#: The deployment directory in the pod; KServe's storage initializer fills MODELS.
DEPLOYMENT = "/mnt"
MODELS = f"{DEPLOYMENT}/models"
STATE = "/var/lib/lepton"


def container(
    plan: DeploymentPlan,
    name: str,
    image: str,
    mounts: Sequence[Mapping[str, Any]],
    o: KserveOptions,
    part: Part,
    hosts: Sequence[str],
    yours: Mapping[str, Any],
) -> dict[str, Any]:
    """The router's container, or a version's; `yours` is what stays of the one that it stands in for."""
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
        "env": merged("name", yours.get("env"), [_token(part.router or name, o.token_secret)]),
        **_env_from(yours.get("envFrom"), o.env_secret),
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "livenessProbe": _probe("/v2/health/live", period=10, failures=3),
        "readinessProbe": _probe("/v2/health/ready", period=5, failures=3),
        "startupProbe": _probe("/v2/health/ready", period=2, failures=150),
        "resources": _resources(part.need, o, yours.get("resources")),
        "volumeMounts": merged("mountPath", yours.get("volumeMounts"), [*mounts, *writable]),
    }


#: Seconds after its end was asked for that a pod goes on as before: until then a cluster's Services may send to it.
_LINGER = 5
#: With that: 30 s that requests in flight have, and some to write what is kept.
GRACE_PERIOD = 60


def lingering() -> dict[str, Any]:
    """A container's `lifecycle`: it ends when nobody sends to it any more. Knative has a proxy that does so."""
    return {"preStop": {"exec": {"command": ["python", "-c", f"import time; time.sleep({_LINGER})"]}}}


def merged(key: str, yours: Any, own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
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


def container_security(yours: Mapping[str, Any], *, alone: bool) -> dict[str, Any]:
    """Pod Security "restricted"; `alone` it names the user, whom else the pod names."""
    kept = {key: value for key, value in yours.items() if key != "privileged" and (key, value) != ("runAsUser", 0)}
    return {**({"runAsGroup": USER, "runAsUser": USER} if alone else {}), **kept, **_CONTAINER_SECURITY}


def pod_security(yours: Mapping[str, Any]) -> dict[str, Any]:
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
