"""InferenceServices in one namespace of a cluster, through the Kubernetes client: server-side apply, watch, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lepton_kserve.connection import MANAGER, REQUEST, Connection
from lepton_kserve.rollout import is_knative, says_ready, unfinished, why_not_ready, workload_name
from lepton_kserve.rules import NAME
from lepton_plugins.errors import (
    ClusterRefused,
    ClusterUnreachable,
    DeploymentNotFound,
    FieldsDropped,
    NotGoneInTime,
    NotReadyInTime,
)

#: Labels of the ConfigMaps, and templates of claims, that a deployment made.
OWNED = "app.kubernetes.io/managed-by"
SERVICE = "serving.kserve.io/inferenceservice"

#: One watch; the API server ends longer ones by itself.
_WATCH = 240
#: Pods are replaced without a word in the InferenceService's status: they are looked at so often.
_LOOK = 2
#: A control plane that is brought up to date is away for a while.
_AWAY = 30
_STARTING = (403, 429, 500, 502, 503, 504)


class Cluster:
    """A namespace of the cluster that the kubeconfig's current context names, or of the one that this pod runs in.

    ClusterUnreachable where there is none; every refusal of the API server is a ClusterRefused of one line.
    """

    def __init__(self, namespace: str | None = None) -> None:
        self._api = Connection(namespace)
        self.namespace = self._api.namespace
        self._services = self._api.kind("serving.kserve.io", "v1beta1", "InferenceService")
        self._maps = self._api.kind("", "v1", "ConfigMap")
        self._claims = self._api.kind("resource.k8s.io", "v1", "ResourceClaimTemplate")
        self._deployments = self._api.kind("apps", "v1", "Deployment")
        self._knative = self._api.kind("serving.knative.dev", "v1", "Service")

    # --- reading ---------------------------------------------------------------------------

    def get(self, name: str) -> dict[str, Any]:
        """The InferenceService as the cluster has it. DeploymentNotFound, also for what can't be a name."""
        if not NAME.fullmatch(name):  # Another would lead elsewhere in the cluster: a/b, ../configmaps, x?watch=1.
            raise DeploymentNotFound(name, f"namespace {self.namespace}")
        with self._api.asking(f"read the InferenceService {name!r}", name):
            found: dict[str, Any] = self._services.get(
                name=name, namespace=self.namespace, serialize=True, _request_timeout=REQUEST
            ).to_dict()
        return found

    def list(self) -> list[dict[str, Any]]:
        """Those that Lepton made: they have the annotation `lepton.plan`."""
        return [item for item in self._all() if "lepton.plan" in _annotations(item)]

    def parts(self, name: str) -> Sequence[dict[str, Any]]:
        """The versions' services behind a router."""
        return [
            item for item in self._all() if (item["metadata"].get("annotations") or {}).get("lepton.router") == name
        ]

    def _all(self) -> Sequence[dict[str, Any]]:
        with self._api.asking("list the InferenceServices"):
            found: Sequence[dict[str, Any]] = self._services.get(
                namespace=self.namespace, _request_timeout=REQUEST
            ).to_dict()["items"]
        return found

    # --- writing ---------------------------------------------------------------------------

    def apply(
        self,
        service: Mapping[str, Any],
        others: Sequence[Mapping[str, Any]],
        *,
        owner: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Apply an InferenceService and what belongs to it (its plan's ConfigMap), which goes when the service goes.

        The service itself goes when its `owner` goes, another InferenceService as the cluster has it.
        """
        name = service["metadata"]["name"]
        mine = service if owner is None else _owned(service, owner, {})
        with self._api.asking(f"apply the InferenceService {name!r}"):
            # Servers before 1.25 drop what they don't know without a word, whatever fieldValidation says.
            if dropped := list(_dropped(mine, self._api.apply(self._services, mine, force, dry=True))):
                raise FieldsDropped(name, dropped)
            applied: dict[str, Any] = self._api.apply(self._services, mine, force)
        for other in others:
            owned = _owned(other, applied, {OWNED: MANAGER, SERVICE: name})
            group, _, version = other["apiVersion"].rpartition("/")
            with self._api.asking(f"apply the {other['kind']} {other['metadata']['name']!r}"):
                self._api.apply(self._api.kind(group, version, other["kind"]), owned, force)
        return applied

    def prune(self, service: Mapping[str, Any], keep: Sequence[Mapping[str, Any]]) -> None:
        """Delete what earlier plans of a service brought and `keep` doesn't have, where it is seen that no pod uses it.

        ConfigMaps, and the templates of claims of devices (DRA) where the cluster has any and they may be seen.
        """
        name = service["metadata"]["name"]
        if self._workload(service) is None:
            return
        selector = f"{OWNED}={MANAGER},{SERVICE}={name}"
        for resource in (self._maps, self._claims):
            kept = {item["metadata"]["name"] for item in keep if item["kind"] == resource.kind}
            action = f"delete the {resource.kind}s of earlier plans"
            for made in self._labelled(resource, selector, action):
                if made not in kept:
                    with self._api.asking(action):
                        resource.delete(name=made, namespace=self.namespace, _request_timeout=REQUEST)

    def _labelled(self, resource: Any, selector: str, action: str) -> Sequence[str]:
        """The names of those with these labels; none where a cluster has no claims, or shows them to others only."""
        try:
            with self._api.asking(action):
                found = resource.get(namespace=self.namespace, label_selector=selector, _request_timeout=REQUEST)
        except ClusterRefused as error:
            if resource is self._claims and error.http_status in (403, 404):
                return []
            raise
        return [str(item["metadata"]["name"]) for item in found.to_dict()["items"]]

    def delete(self, name: str, seconds: float = 60) -> bool:
        """Delete a service and wait until it is gone, which is KServe's to say: it holds a finalizer.

        False where there was none; NotGoneInTime.
        """
        end = time.monotonic() + seconds
        try:
            with self._api.asking(f"delete the InferenceService {name!r}", name):
                found = self.get(name)
                self._services.delete(name=name, namespace=self.namespace, _request_timeout=REQUEST)
        except DeploymentNotFound:
            return False
        uid = found["metadata"]["uid"]
        try:
            while found["metadata"]["uid"] == uid:
                left = end - time.monotonic()
                if left <= 0:
                    raise NotGoneInTime(name, seconds, found["metadata"].get("finalizers") or ())
                found = self._watched(self._back(name), min(left, _WATCH), lambda _: False)
        except DeploymentNotFound:
            pass
        return True

    # --- waiting ---------------------------------------------------------------------------

    def lacking(self, service: Mapping[str, Any]) -> str:
        """What is missing until all pods serve what was applied, in the controller's words; empty: nothing is."""
        if not says_ready(service):
            return why_not_ready(service) or "no status yet: is KServe's controller running?"
        workload = self._workload(service)
        return "" if workload is None else unfinished(service, workload)

    def wait(self, name: str, seconds: float, since: float | None = None) -> dict[str, Any]:
        """Watch until all pods serve what was applied, so many seconds from now or from `since` of the monotonic clock.

        NotReadyInTime with what the controller said last.
        """
        end = (time.monotonic() if since is None else since) + seconds
        found = self.get(name)
        while lacking := self.lacking(found):
            left = end - time.monotonic()
            if left <= 0:
                look = f"kubectl -n {self.namespace} describe inferenceservice {name}"
                raise NotReadyInTime(name, seconds, lacking, look)
            found = self._watched(found, min(left, _LOOK if says_ready(found) else _WATCH), says_ready)
        return found

    def _workload(self, service: Mapping[str, Any]) -> dict[str, Any] | None:
        """The object below the predictor; None where there is none, or who asks may not see it."""
        kind, name = (self._knative if is_knative(service) else self._deployments), workload_name(service)
        try:
            with self._api.asking(f"read {name!r}"):
                found: dict[str, Any] = kind.get(
                    name=name, namespace=self.namespace, _request_timeout=REQUEST
                ).to_dict()
        except ClusterRefused as error:
            if error.http_status not in (403, 404):
                raise
            return None
        return found

    def _watched(
        self, found: dict[str, Any], seconds: float, done: Callable[[Mapping[str, Any]], bool]
    ) -> dict[str, Any]:
        """The newest state after at most so many seconds, as soon as it is `done`; DeploymentNotFound."""
        from kubernetes.client import ApiException
        from kubernetes.watch import Watch

        name, version = found["metadata"]["name"], found["metadata"]["resourceVersion"]
        end = time.monotonic() + seconds
        try:
            with self._api.asking(f"watch the InferenceService {name!r}", name):
                for event in Watch().stream(
                    self._services.get,
                    namespace=self.namespace,
                    field_selector=f"metadata.name={name}",
                    resource_version=version,
                    serialize=False,
                    timeout_seconds=max(1, round(seconds)),
                    _request_timeout=seconds + REQUEST,  # A server that is gone without a word.
                ):
                    if event["type"] == "DELETED":
                        raise DeploymentNotFound(name, f"namespace {self.namespace}")
                    if event["type"] in ("ADDED", "MODIFIED"):
                        found = dict(event["raw_object"])
                    if done(found) or time.monotonic() >= end:
                        return found
        except (ClusterUnreachable, ClusterRefused, ApiException):
            # A proxy cut the stream, the version that it began at is too old (410), who asks may read and not watch.
            time.sleep(min(0.5, max(0.0, end - time.monotonic())))
        return self._back(name)

    def _back(self, name: str) -> dict[str, Any]:
        """The newest state, from an API server that may be starting anew: at first it knows nobody's rights."""
        end = time.monotonic() + _AWAY
        while True:
            try:
                return self.get(name)
            except (ClusterUnreachable, ClusterRefused) as error:
                if error.http_status not in _STARTING or time.monotonic() >= end:
                    raise
            time.sleep(1)


def _annotations(service: Mapping[str, Any]) -> Mapping[str, Any]:
    return service["metadata"].get("annotations") or {}


def _owned(manifest: Mapping[str, Any], owner: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    reference = {key: owner[key] for key in ("apiVersion", "kind")}
    reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
    metadata = {**manifest["metadata"], "ownerReferences": [reference]}
    if labels:
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    return {**manifest, "metadata": metadata}


def _dropped(wanted: Any, there: Any, place: str = "") -> Iterator[str]:
    """The fields that aren't there although they are wanted."""
    if isinstance(wanted, Mapping):
        for key, item in wanted.items():
            if isinstance(there, Mapping) and key in there:
                yield from _dropped(item, there[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}"
    elif isinstance(wanted, list) and isinstance(there, list):
        for index, (item, other) in enumerate(zip(wanted, there, strict=False)):
            yield from _dropped(item, other, f"{place}[{index}]")
