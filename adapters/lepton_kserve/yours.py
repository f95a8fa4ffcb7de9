"""A manifest that you have (`--from`): what of it stays when the router stands in for its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lepton_kserve.options import KserveOptions
from lepton_kserve.rollout import CONTAINER
from lepton_kserve.rules import MODE, STANDARD, STORAGE_URI
from lepton_kserve.shape import misshapen, without_nulls
from lepton_plugins.errors import InvalidInput
from lepton_plugins.records.plan import DeploymentPlan

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


def mode_of(o: KserveOptions) -> str:
    """The option's deployment mode, else your manifest's, else Standard."""
    yours = (your_manifest(o.manifest).get("metadata") or {}).get("annotations") or {}
    return o.mode or str(yours.get(MODE, "Standard"))


def namespace_of(o: KserveOptions) -> str | None:
    """The option's, else that of your manifest."""
    found = o.namespace or (your_manifest(o.manifest).get("metadata") or {}).get("namespace")
    return None if found is None else str(found)


def name_of(plan: DeploymentPlan, o: KserveOptions) -> str:
    """The option's, else that of your manifest, else the model's."""
    return str(o.name or (your_manifest(o.manifest).get("metadata") or {}).get("name") or plan.model)


def your_manifest(manifest: Path | None) -> dict[str, Any]:
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


def take_out_model(predictor: dict[str, Any], models: str) -> dict[str, Any]:
    """Take out of a predictor what the router stands in for; returns what of its container stays.

    `models` is the folder of the versions: what was mounted there goes.
    """
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
            item for item in found["volumeMounts"] or () if not f"{item.get('mountPath')}/".startswith(f"{models}/")
        ]
    return {key: found[key] for key in _YOURS if found.get(key)}
