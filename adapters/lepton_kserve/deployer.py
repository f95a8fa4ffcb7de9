"""Deploys the target `kserve`: a router on a cluster with KServe."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from lepton_kserve.cluster import Cluster
from lepton_kserve.rollout import says_ready
from lepton_plugins import __version__
from lepton_plugins.deployer import predict_over_v1, seconds_of
from lepton_plugins.errors import DeploymentExists, DeploymentFailed, DeploymentNotFound, ImageMissing, InvalidInput
from lepton_plugins.routing.directory import DeploymentDirectory

#: A way to the cluster's ingress where its names aren't resolved here, such as http://localhost:8080.
INGRESS = "LEPTON_KSERVE_INGRESS"

_OWN = {"timeout": "600", "wait": "true", "force": "false"}

_HELP = """lepton-kserve: a plan's versions behind one router, as a KServe InferenceService.

Target: lepton-kserve, or lepton-kserve:/NAMESPACE (default: that of the kubeconfig's current context).

  mlflow deployments create -t lepton-kserve -m models:/flights/plan --name flights \\
    -C image=registry.example/flights-router:1 -C upload=s3://bucket/models -C service_account=reader

-C timeout=600      seconds to wait until all pods serve it; -C wait=false: don't wait
-C force=true       take over fields that others manage (server-side apply)
-C KEY=VALUE        every option of `lepton generate --target kserve --help`: image (needed), upload, models, from,
                    service_account, token_secret, cpu, memory, min_replicas, max_replicas …

delete waits until it is gone: -C timeout=60. Rights: get, list, watch, create, patch, delete of InferenceServices and
ConfigMaps, of ResourceClaimTemplates where devices are claimed. With get of Deployments (Knative: its Services) a
roll-out is seen to its end, else KServe's Ready counts.

predict posts to the service's URL; where its name isn't resolved here, LEPTON_KSERVE_INGRESS=http://localhost:8080
names the ingress. run-local serves the plan on this machine as the predictor's container would: -C port=8080.
"""


class KserveDeployer:
    """Deployments are InferenceServices that Lepton made in one namespace: the place, or the kubeconfig's own."""

    help = _HELP

    def __init__(self, place: str = "") -> None:
        self._namespace = place or None

    def create(self, name: str, deployment: Callable[[], Path], options: Mapping[str, str]) -> dict[str, Any]:
        """Apply a new InferenceService and wait until it is ready."""
        return self._deploy(name, deployment, options, new=True)

    def update(self, name: str, deployment: Callable[[], Path], options: Mapping[str, str]) -> dict[str, Any]:
        """Apply another plan or other options to an InferenceService and wait until it is ready."""
        return self._deploy(name, deployment, options, new=False)

    def get(self, name: str) -> dict[str, Any]:
        """Name, namespace, url, whether it is ready, the plan's digest, the image."""
        cluster = self._cluster()
        return _described(cluster, cluster.get(name))

    def list(self) -> Sequence[dict[str, Any]]:
        """The InferenceServices that Lepton made in the namespace."""
        cluster = self._cluster()
        return [_described(cluster, item) for item in cluster.list()]

    def delete(self, name: str, options: Mapping[str, str]) -> None:
        """Delete an InferenceService and wait until it is gone; the ConfigMaps of its plans go with it."""
        if unknown := sorted(set(options) - {"namespace", "timeout"}):
            raise InvalidInput(f"delete: found -C {unknown[0]}=…, expected -C namespace=… or -C timeout=….")
        self._cluster(options.get("namespace")).delete(name, seconds_of(options.get("timeout", "60")))

    def predict(self, name: str, instances: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """Over V1, which passes transformers."""
        service = self._cluster().get(name)
        url = (service.get("status") or {}).get("url")
        if not url or not says_ready(service):
            raise DeploymentFailed(name, "it isn't ready; `mlflow deployments get` shows its state.")
        hint = f"{INGRESS} names a way to the cluster's ingress"
        return predict_over_v1(name, str(url), instances, ingress=os.environ.get(INGRESS), hint=hint)

    def run_local(self, name: str, deployment: Callable[[], Path], options: Mapping[str, str]) -> None:
        """Serve the deployment on this machine, as the predictor's container would, until interrupted."""
        given = dict(options)
        port = given.pop("port", "8080")
        if given or not port.isdigit():
            raise InvalidInput(
                f"run-local: found {', '.join(given) or port}, expected -C port=NUMBER or -C revision=REV."
            )
        from lepton_plugins.serving.run import serve
        from lepton_plugins.serving.settings import ServingSettings, token_from

        settings = ServingSettings(token=token_from(os.environ), aliases=(name,))
        serve(deployment(), "127.0.0.1", int(port), settings=settings)

    # --- inside ----------------------------------------------------------------------------

    def _cluster(self, namespace: str | None = None) -> Cluster:
        return Cluster(namespace or self._namespace)

    def _deploy(
        self, name: str, deployment: Callable[[], Path], options: Mapping[str, str], *, new: bool
    ) -> dict[str, Any]:
        from lepton_plugins.generate import render

        given = dict(options)
        own = {key: given.pop(key, default) for key, default in _OWN.items()}
        seconds, wait, force = seconds_of(own["timeout"]), _flag("wait", own["wait"]), _flag("force", own["force"])
        if given.setdefault("name", name) != name:
            raise InvalidInput(f"Found -C name={given['name']} and --name {name}, expected one name.")
        cluster = self._cluster(given.get("namespace"))
        given["namespace"] = cluster.namespace
        where = f"namespace {cluster.namespace}"
        there = _there(cluster, name)
        if new and there:
            raise DeploymentExists(name, where)
        if not new and not there:
            raise DeploymentNotFound(name, where, [item["metadata"]["name"] for item in cluster.list()])
        directory = deployment()
        if "image" not in given:
            raise ImageMissing(DeploymentDirectory.open(directory).plan.model)
        # The image is there: Lepton's packages needn't be written once more.
        given.setdefault("lepton_requirement", f"lepton-plugins=={__version__}")
        with TemporaryDirectory(prefix="lepton-") as folder:
            rendered = Path(folder) / "rendered"
            render(directory, "kserve", rendered, given)
            router = _manifests(rendered)
            parts = [_manifests(part) for part in sorted((rendered / "services").glob("*"))]
        return _described(cluster, _roll_out(cluster, router, parts, seconds if wait else None, force=force))


class _Manifests(NamedTuple):
    """An InferenceService, and what belongs to it."""

    service: dict[str, Any]
    others: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return str(self.service["metadata"]["name"])


def _manifests(folder: Path) -> _Manifests:
    import yaml

    found = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yaml"))]
    known = [item for item in found if item["kind"] != "Kustomization"]
    (service,) = [item for item in known if item["kind"] == "InferenceService"]
    return _Manifests(service, [item for item in known if item is not service])


def _roll_out(
    cluster: Cluster, router: _Manifests, parts: Sequence[_Manifests], seconds: float | None, *, force: bool
) -> dict[str, Any]:
    """Apply all and wait so long, if at all; the versions' services (`parts`) go when the router goes, which owns them.

    A router that answers already gets its new plan when the services in that plan are there.
    """
    begun = time.monotonic()
    answers = bool(parts) and _there(cluster, router.name)
    found = cluster.get(router.name) if answers else cluster.apply(router.service, router.others, force=force)
    for part in parts:
        cluster.apply(part.service, part.others, owner=found, force=force)
    if seconds is not None:
        for part in parts:
            _ready(cluster, part, seconds, begun)
    if answers:
        found = cluster.apply(router.service, router.others, force=force)
    if seconds is not None:
        found = _ready(cluster, router, seconds, begun)
        wanted = {part.name for part in parts}
        for item in cluster.parts(router.name):
            if item["metadata"]["name"] not in wanted:
                cluster.delete(item["metadata"]["name"], max(1.0, begun + seconds - time.monotonic()))
    return found


def _ready(cluster: Cluster, manifests: _Manifests, seconds: float, since: float) -> dict[str, Any]:
    found = cluster.wait(manifests.name, seconds, since)
    cluster.prune(found, keep=manifests.others)
    return found


def _there(cluster: Cluster, name: str) -> bool:
    try:
        cluster.get(name)
    except DeploymentNotFound:
        return False
    return True


def _described(cluster: Cluster, service: Mapping[str, Any]) -> dict[str, Any]:
    metadata, status = service["metadata"], service.get("status") or {}
    containers = service["spec"]["predictor"].get("containers") or [{}]
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "ready": not cluster.lacking(service),
        "url": status.get("url"),
        "plan": (metadata.get("annotations") or {}).get("lepton.plan"),
        "image": containers[0].get("image"),
    }


def _flag(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise InvalidInput(f"-C {name}={text}: expected true or false.")
    return text.lower() == "true"
