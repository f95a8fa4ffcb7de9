"""A replica's GPUs in a manifest: whole devices or MIG profiles as resources, or devices claimed (DRA)."""

from __future__ import annotations

from typing import Any

from lepton_kserve.options import KserveOptions
from lepton_kserve.scheduling import agreed
from lepton_plugins.canonical import digest_json
from lepton_plugins.errors import InvalidInput
from lepton_plugins.gpu.accelerators import accelerator
from lepton_plugins.gpu.memory import GpuMemory, advice
from lepton_plugins.needs import Need

WHOLE = "nvidia.com/gpu"
#: The pod's name for its claim.
CLAIM = "gpu"
#: NVIDIA's driver for claims publishes its devices' memory under this name, for whole devices and MIG profiles.
_NVIDIA = "gpu.nvidia.com"
_NVIDIA_CLASSES = (_NVIDIA, "mig.nvidia.com")


def request(
    predictor: dict[str, Any], need: Need, name: str, namespace: str | None, o: KserveOptions, *, knative: bool
) -> dict[str, Any] | None:
    """Give the first container its devices; returns the ResourceClaimTemplate that it takes them by, if it does.

    The options go before what the pools say. InvalidInput for a version that no such device holds, and for a claim
    in Knative mode, whose webhook refuses them.
    """
    container = predictor["containers"][0]
    asked = o.gpu_key or o.accelerator or o.device_class
    yours = any("/" in key for key in container["resources"].get("limits") or ())  # A device: nvidia.com/gpu.
    if not need.gpu or (yours and not asked):
        return None
    of_class = o.device_class or (None if o.gpu_key or o.accelerator else agreed(need, "device_class"))
    if of_class is None:
        key = o.gpu_key or _advised(need, name, o) or agreed(need, "gpu_key") or WHOLE
        limits = {
            name: value for name, value in (container["resources"].get("limits") or {}).items() if "/" not in name
        }
        container["resources"]["limits"] = limits | {key: str(need.gpu)}
        return None
    if knative:
        raise InvalidInput(
            f"{name}: found devices claimed of the class {of_class} in Knative mode, which refuses claims; expected "
            "--mode Standard, or a resource: --gpu-key nvidia.com/gpu"
        )
    template = _template(need, name, namespace, of_class)
    predictor["resourceClaims"] = [{"name": CLAIM, "resourceClaimTemplateName": template["metadata"]["name"]}]
    container["resources"]["claims"] = [{"name": CLAIM}]
    return template


def _advised(need: Need, name: str, o: KserveOptions) -> str | None:
    """The resource that the memory asks for on devices of this kind."""
    if o.accelerator is None:
        return None
    kind = accelerator(o.accelerator)
    if not need.gpu_memory:
        raise InvalidInput(
            f"{name}: --accelerator {o.accelerator} needs the GPU memory that the versions hold, and none was "
            f"measured; evaluate them where there is a GPU, or say it yourself: --gpu-key {kind.key}"
        )
    found = advice(GpuMemory(weights=need.gpu_memory // need.gpu, activations=0, workspace=0, context=0), kind)
    if found.key is None:
        raise InvalidInput(f"{name}: {found.text}. Expected a larger --accelerator, or a smaller version.")
    return found.key


def _template(need: Need, name: str, namespace: str | None, of_class: str) -> dict[str, Any]:
    """Immutable, so its name tells its content."""
    exactly: dict[str, Any] = {"deviceClassName": of_class, "allocationMode": "ExactCount", "count": need.gpu}
    if need.gpu_memory and of_class in _NVIDIA_CLASSES:
        least = -(-need.gpu_memory // need.gpu // 2**20)
        expression = f"device.capacity['{_NVIDIA}'].memory.compareTo(quantity('{least}Mi')) >= 0"
        exactly["selectors"] = [{"cel": {"expression": expression}}]
    spec = {"spec": {"devices": {"requests": [{"name": CLAIM, "exactly": exactly}]}}}
    metadata = {"name": f"{name}-gpu-{digest_json(spec).removeprefix('sha256:')[:12]}"}
    if namespace is not None:
        metadata["namespace"] = namespace
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": metadata, "spec": spec}
