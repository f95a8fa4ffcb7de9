"""The target `lepton-kserve` of `mlflow deployments`: a router on a cluster with KServe. Imported by MLflow only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow.deployments import BaseDeploymentClient

from lepton_kserve.cluster import Cluster, is_ready
from lepton_mlflow.deployable import deployment_of, predicted, refusals, seconds_of
from lepton_plugins import __version__
from lepton_plugins.errors import DeploymentExists, DeploymentFailed, DeploymentNotFound, ImageMissing, InvalidInput
from lepton_plugins.routing.directory import DeploymentDirectory

if TYPE_CHECKING:
    import pandas as pd

TARGET = "lepton-kserve"
FLAVOR = "lepton"
#: A way to the cluster's ingress where its names aren't resolved here, such as http://localhost:8080.
INGRESS = "LEPTON_KSERVE_INGRESS"

_OWN = {"timeout": "600", "wait": "true", "force": "false", "revision": ""}

_HELP = """lepton-kserve: a plan's versions behind one router, as a KServe InferenceService.

Target: lepton-kserve, or lepton-kserve:/NAMESPACE (default: that of the kubeconfig's current context).
Model:  models:/NAME/plan (the plan in force of NAME), models:/NAME-router/1 (a router that `lepton generate --target
        mlflow` registered), or a path to either.

  mlflow deployments create -t lepton-kserve -m models:/flights/plan --name flights \\
    -C image=registry.example/flights-router:1 -C upload=s3://bucket/models -C service_account=reader

-C timeout=600      seconds to wait for readiness; -C wait=false: don't wait
-C force=true       take over fields that others manage (server-side apply)
-C revision=4       of models:/NAME/plan, another plan than the one in force
-C KEY=VALUE        every option of `lepton generate --target kserve --help`: image (needed), upload, models, from,
                    service_account, token_secret, cpu, memory, min_replicas, max_replicas …

predict posts to the service's URL; where its name isn't resolved here, LEPTON_KSERVE_INGRESS=http://localhost:8080
names the ingress. run-local serves the plan on this machine as the predictor's container would: -C port=8080.
"""


def target_help() -> str:
    """What `mlflow deployments help -t lepton-kserve` prints."""
    return _HELP


def run_local(name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, Any] | None = None) -> None:
    """Serve the deployment on this machine, as the predictor's container would, until interrupted."""
    given = dict(config or {})
    port, revision = given.pop("port", "8080"), given.pop("revision", None)
    with refusals(), TemporaryDirectory(prefix="lepton-") as folder:
        if given or not str(port).isdigit():
            raise InvalidInput(
                f"run-local: found {', '.join(given) or port}, expected -C port=NUMBER or -C revision=REV."
            )
        from lepton_plugins.serving.run import serve
        from lepton_plugins.serving.settings import ServingSettings, token_from

        directory = deployment_of(model_uri, Path(folder), revision)
        serve(
            directory, "127.0.0.1", int(port), settings=ServingSettings(token=token_from(os.environ), aliases=(name,))
        )


class KServeDeployments(BaseDeploymentClient):
    """Deployments are InferenceServices of one namespace that Lepton made."""

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)  # type: ignore[no-untyped-call]
        self._namespace = target_uri.partition(":")[2].strip("/") or None

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Apply a new InferenceService and wait until it is ready."""
        return self._deploy(name, model_uri, config, new=True)

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Apply another plan or other options to an InferenceService and wait until it is ready."""
        with refusals():
            if model_uri is None:
                raise InvalidInput("update needs -m: the options apply to a plan. Name it again: -m models:/NAME/plan")
        return self._deploy(name, model_uri, config, new=False)

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """Delete an InferenceService; the ConfigMaps of its plans go with it. One that isn't there is no error."""
        with refusals():
            self._cluster((config or {}).get("namespace")).delete(name)

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """The InferenceServices that Lepton made in the namespace."""
        with refusals():
            return [_described(item) for item in self._cluster().list()]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """Name, namespace, url, whether it is ready, the plan's digest, the image."""
        with refusals():
            return _described(self._cluster().get(name))

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> pd.DataFrame:
        """Answers for a DataFrame, a row each, over V1 (which passes transformers)."""
        with refusals():
            service = self._cluster().get(str(deployment_name))
            url = (service.get("status") or {}).get("url")
            if not url or not is_ready(service):
                raise DeploymentFailed(
                    str(deployment_name), "it isn't ready; `mlflow deployments get` shows its state."
                )
            hint = f"{INGRESS} names a way to the cluster's ingress"
            return predicted(str(deployment_name), str(url), inputs, ingress=os.environ.get(INGRESS), hint=hint)

    # --- inside ----------------------------------------------------------------------------

    def _cluster(self, namespace: str | None = None) -> Cluster:
        return Cluster(namespace or self._namespace)

    def _deploy(self, name: str, model_uri: str, config: Mapping[str, Any] | None, *, new: bool) -> dict[str, Any]:
        import yaml

        from lepton_plugins.generate import generate

        given = {key: str(value) for key, value in (config or {}).items()}
        own = {key: given.pop(key, default) for key, default in _OWN.items()}
        with refusals(), TemporaryDirectory(prefix="lepton-") as folder:
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
            directory = deployment_of(model_uri, Path(folder), own["revision"] or None)
            if "image" not in given:
                raise ImageMissing(DeploymentDirectory.open(directory).plan.model)
            # The image is there: Lepton's packages needn't be written once more.
            given.setdefault("lepton_requirement", f"lepton-plugins=={__version__}")
            rendered = Path(folder) / "rendered"
            generate(directory, "kserve", rendered, given)
            service, plan = (
                yaml.safe_load((rendered / file).read_text(encoding="utf-8"))
                for file in ("inferenceservice.yaml", "plan.yaml")
            )
            applied = cluster.apply(service, plan, force=force)
            if wait:
                applied = cluster.wait(name, int(applied["metadata"]["generation"]), seconds)
                cluster.prune(name, keep=plan["metadata"]["name"])
            return _described(applied)


def _there(cluster: Cluster, name: str) -> bool:
    try:
        cluster.get(name)
    except DeploymentNotFound:
        return False
    return True


def _described(service: Mapping[str, Any]) -> dict[str, Any]:
    metadata, status = service["metadata"], service.get("status") or {}
    containers = service["spec"]["predictor"].get("containers") or [{}]
    return {
        "name": metadata["name"],
        "flavor": FLAVOR,
        "namespace": metadata["namespace"],
        "ready": is_ready(service, int(metadata.get("generation") or 0)),
        "url": status.get("url"),
        "plan": (metadata.get("annotations") or {}).get("lepton.plan"),
        "image": containers[0].get("image"),
    }


def _flag(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise InvalidInput(f"-C {name}={text}: expected true or false.")
    return text.lower() == "true"
