"""The API server of a cluster: found by the kubeconfig or in a pod, asked through the Kubernetes client."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lepton_kserve.faults import refused
from lepton_plugins.errors import ClusterUnreachable, DeploymentNotFound, InvalidInput, PackageMissing

#: Under this name the fields that Lepton sets are Lepton's (server-side apply).
MANAGER = "lepton"
#: Seconds that a request may take.
REQUEST = 30

#: Where a pod reads which namespace it runs in.
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_NAMESPACE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Connection:
    """One namespace, by default the one that the kubeconfig's context or this pod's files name.

    ClusterUnreachable where no cluster is named; InvalidInput for what can't be a namespace.
    """

    def __init__(self, namespace: str | None) -> None:
        try:
            from kubernetes import client, config
            from kubernetes.dynamic import DynamicClient
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
        if not _NAMESPACE_NAME.fullmatch(self.namespace):
            raise InvalidInput(
                f"Found the namespace {self.namespace!r}, expected lower-case letters, digits and '-', as in "
                "-t lepton-kserve:/models"
            )
        # Four kinds are all that is asked for: no discovery, which would write a cache into the temporary folder.
        self._client = DynamicClient(client.ApiClient(configuration), discoverer=lambda client, cache_file: None)

    def kind(self, group: str, version: str, kind: str) -> Any:
        """What the client reads and writes objects of a kind by; the core group is empty."""
        from kubernetes.dynamic import Resource

        return Resource(
            prefix="apis" if group else "api",
            group=group,
            api_version=version,
            kind=kind,
            name=f"{kind.lower()}s",
            namespaced=True,
            client=self._client,
        )

    def apply(self, resource: Any, body: Mapping[str, Any], force: bool, *, dry: bool = False) -> dict[str, Any]:
        """Server-side apply; returns the object as the cluster has it then, or would have it (`dry`)."""
        found: dict[str, Any] = resource.server_side_apply(
            body=dict(body),
            namespace=self.namespace,
            field_manager=MANAGER,
            force_conflicts="true" if force else "false",
            query_params=[("fieldValidation", "Strict")],
            dry_run="All" if dry else None,
            _request_timeout=REQUEST,
        ).to_dict()
        return found

    @contextmanager
    def asking(self, action: str, name: str | None = None) -> Iterator[None]:
        """Lepton's errors in the place of the client's. `name` is the object whose absence is DeploymentNotFound."""
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


def _current_namespace(config: Any, file: str) -> str:
    _, current = config.list_kube_config_contexts(config_file=file)
    return str(current["context"].get("namespace") or "default")


def _own_namespace() -> str:
    return _NAMESPACE.read_text(encoding="utf-8").strip() if _NAMESPACE.is_file() else "default"
