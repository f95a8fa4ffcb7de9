"""InferenceServices in one namespace of a cluster, through the Kubernetes client: server-side apply, watch, delete."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lepton_kserve.faults import refused
from lepton_plugins.errors import ClusterUnreachable, DeploymentNotFound, NotReadyInTime, PackageMissing

#: Under this name the fields that Lepton sets are Lepton's (server-side apply).
MANAGER = "lepton"
#: Labels of the ConfigMaps that a deployment made.
OWNED = "app.kubernetes.io/managed-by"
SERVICE = "serving.kserve.io/inferenceservice"

#: Where a pod reads which namespace it runs in.
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

#: One watch; the API server ends longer ones by itself.
_WATCH = 240
_REQUEST = 30


class Cluster:
    """A namespace of the cluster that the kubeconfig's current context names, or of the one that this pod runs in.

    ClusterUnreachable where there is none; every refusal of the API server is a ClusterRefused of one line.
    """

    def __init__(self, namespace: str | None = None) -> None:
        try:
            from kubernetes import client, config
            from kubernetes.dynamic import DynamicClient, Resource
        except ImportError:
            raise PackageMissing("kubernetes", "lepton-kserve", "pip install 'lepton-plugins[kserve]'") from None
        configuration = client.Configuration()
        configuration.retries = False
        # Read now, and not when the client was imported: notebooks change it.
        given = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        in_a_pod = "KUBECONFIG" not in os.environ and not Path(given).is_file()
        try:
            if in_a_pod:
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(config_file=given, client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise ClusterUnreachable(" ".join(str(error).split())[:300].rstrip(".")) from None
        self.namespace = namespace or (_own_namespace() if in_a_pod else _current_namespace(config, given))
        # Two kinds are all that is asked for: no discovery, which would write a cache into the temporary folder.
        dynamic = DynamicClient(client.ApiClient(configuration), discoverer=lambda client, cache_file: None)
        self._services = Resource(
            prefix="apis",
            group="serving.kserve.io",
            api_version="v1beta1",
            kind="InferenceService",
            name="inferenceservices",
            namespaced=True,
            client=dynamic,
        )
        self._maps = Resource(
            prefix="api",
            group="",
            api_version="v1",
            kind="ConfigMap",
            name="configmaps",
            namespaced=True,
            client=dynamic,
        )

    # --- reading ---------------------------------------------------------------------------

    def get(self, name: str) -> dict[str, Any]:
        """The InferenceService as the cluster has it. DeploymentNotFound."""
        with self._asking(f"read the InferenceService {name!r}", name):
            found: dict[str, Any] = self._services.get(
                name=name, namespace=self.namespace, serialize=True, _request_timeout=_REQUEST
            ).to_dict()
        return found

    def list(self) -> list[dict[str, Any]]:
        """Those that Lepton made: they have the annotation `lepton.plan`."""
        with self._asking("list the InferenceServices"):
            found = self._services.get(namespace=self.namespace, _request_timeout=_REQUEST).to_dict()["items"]
        return [item for item in found if "lepton.plan" in (item["metadata"].get("annotations") or {})]

    # --- writing ---------------------------------------------------------------------------

    def apply(self, service: Mapping[str, Any], plan: Mapping[str, Any], *, force: bool = False) -> dict[str, Any]:
        """Apply an InferenceService and the ConfigMap of its plan, which goes when the service goes."""
        name = service["metadata"]["name"]
        with self._asking(f"apply the InferenceService {name!r}"):
            applied: dict[str, Any] = self._apply(self._services, service, force)
        owner = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "name": name,
            "uid": applied["metadata"]["uid"],
        }
        labels = {OWNED: MANAGER, SERVICE: name}
        owned = {**plan, "metadata": {**plan["metadata"], "labels": labels, "ownerReferences": [owner]}}
        with self._asking(f"apply the ConfigMap {plan['metadata']['name']!r}"):
            self._apply(self._maps, owned, force)
        return applied

    def prune(self, name: str, keep: str) -> None:
        """Delete the ConfigMaps of earlier plans of a service."""
        selector = f"{OWNED}={MANAGER},{SERVICE}={name}"
        with self._asking("delete the ConfigMaps of earlier plans"):
            found = self._maps.get(namespace=self.namespace, label_selector=selector, _request_timeout=_REQUEST)
            for item in found.to_dict()["items"]:
                if item["metadata"]["name"] != keep:
                    self._maps.delete(
                        name=item["metadata"]["name"], namespace=self.namespace, _request_timeout=_REQUEST
                    )

    def delete(self, name: str) -> bool:
        """Delete a service; False where there was none."""
        try:
            with self._asking(f"delete the InferenceService {name!r}", name):
                self._services.delete(name=name, namespace=self.namespace, _request_timeout=_REQUEST)
        except DeploymentNotFound:
            return False
        return True

    # --- waiting ---------------------------------------------------------------------------

    def wait(self, name: str, generation: int, seconds: float) -> dict[str, Any]:
        """Watch until the controller says Ready of this generation; NotReadyInTime with what it said last."""
        end = time.monotonic() + seconds
        found = self.get(name)
        while not is_ready(found, generation):
            left = end - time.monotonic()
            if left <= 0:
                look = f"kubectl -n {self.namespace} describe inferenceservice {name}"
                raise NotReadyInTime(name, seconds, _said(found), look)
            found = self._watched(found, generation, min(left, _WATCH))
        return found

    def _watched(self, found: dict[str, Any], generation: int, seconds: float) -> dict[str, Any]:
        """The newest state after at most so many seconds, as soon as it is ready."""
        from kubernetes.client import ApiException

        name, version = found["metadata"]["name"], found["metadata"]["resourceVersion"]
        end = time.monotonic() + seconds
        try:
            with self._asking(f"watch the InferenceService {name!r}", name):
                for event in self._services.watch(
                    namespace=self.namespace, name=name, resource_version=version, timeout=max(1, round(seconds))
                ):
                    if event["type"] == "DELETED":
                        raise DeploymentNotFound(name, f"namespace {self.namespace}")
                    if event["type"] in ("ADDED", "MODIFIED"):
                        found = dict(event["raw_object"])
                    if is_ready(found, generation) or time.monotonic() >= end:
                        return found
        except (ClusterUnreachable, ApiException):
            # A proxy cut the stream, or the version that it began at is too old (410): read, and watch again.
            time.sleep(min(0.5, max(0.0, end - time.monotonic())))
        return self.get(name)

    # --- inside ----------------------------------------------------------------------------

    def _apply(self, resource: Any, body: Mapping[str, Any], force: bool) -> dict[str, Any]:
        found: dict[str, Any] = resource.server_side_apply(
            body=dict(body),
            namespace=self.namespace,
            field_manager=MANAGER,
            force_conflicts="true" if force else "false",
            query_params=[("fieldValidation", "Strict")],
            _request_timeout=_REQUEST,
        ).to_dict()
        return found

    @contextmanager
    def _asking(self, action: str, name: str | None = None) -> Iterator[None]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            refusal = refused(error, action)
            if error.status == 404 and name is not None and f'"{name}" not found' in str(refusal):
                raise DeploymentNotFound(name, f"namespace {self.namespace}") from None
            if error.status == 410:
                raise  # A watch that is too old: it is begun again.
            raise refusal from None
        except HTTPError as error:
            raise ClusterUnreachable(" ".join(str(error).split())[:300]) from None


def is_ready(service: Mapping[str, Any], generation: int = 0) -> bool:
    """Whether the controller has seen this generation and says that it is ready."""
    status = service.get("status") or {}
    return int(status.get("observedGeneration") or 0) >= generation and any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )


def _said(service: Mapping[str, Any]) -> str:
    """Why it isn't ready, in the controller's words."""
    status = service.get("status") or {}
    pending = [condition for condition in status.get("conditions") or () if condition.get("status") != "True"]
    said = [f"{item.get('type')}: {item.get('reason') or ''} {item.get('message') or ''}" for item in pending]
    failure = ((status.get("modelStatus") or {}).get("lastFailureInfo") or {}).get("message")
    return "; ".join(" ".join(part.split()) for part in [*said, *([failure] if failure else [])])[:600].rstrip(".")


def _current_namespace(config: Any, file: str) -> str:
    _, current = config.list_kube_config_contexts(config_file=file)
    return str(current["context"].get("namespace") or "default")


def _own_namespace() -> str:
    return _NAMESPACE.read_text(encoding="utf-8").strip() if _NAMESPACE.is_file() else "default"
