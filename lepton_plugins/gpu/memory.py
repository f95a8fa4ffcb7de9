"""GPU memory of one replica, by its parts, and what kind of share of a device it wants."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lepton_plugins.planning.quantity import size
from lepton_plugins.records.accelerator import Accelerator, MigProfile
from lepton_plugins.records.record import Record
from lepton_plugins.records.report import Quantity


class GpuMemory(Record):
    """Bytes. `activations` are the tensors of one pass that are alive at the same time, inputs included."""

    weights: int
    activations: int
    workspace: int
    context: int

    @property
    def total(self) -> int:
        return self.weights + self.activations + self.workspace + self.context

    @property
    def quantity(self) -> Quantity:
        """As a report keeps it."""
        parts = ", ".join(f"{name} {size(value)}" for name, value in self.model_dump().items())
        return Quantity(value=float(self.total), how="estimated", detail=f"shapes and lifetimes: {parts}")


class Margins(Record):
    """What a device holds beyond weights and activations."""

    workspace: float = Field(default=0.1, ge=0)
    """Kernels' scratch space and the allocator's rounding, as a part of the activations."""
    least_workspace: int = Field(default=32 * 2**20, ge=0)
    """Bytes; cuBLAS' and cuDNN's handles take about so much however small a model is."""
    context: int = Field(default=450 * 2**20, ge=0)
    """Bytes of the CUDA context and the loaded kernels, once a process."""

    def around(self, *, weights: int, activations: int) -> GpuMemory:
        """The whole from the two parts that shapes tell."""
        workspace = max(int(self.workspace * activations), self.least_workspace)
        return GpuMemory(weights=weights, activations=activations, workspace=workspace, context=self.context)


class Advice(Record):
    """How to give a version its part of a device: `key` is Kubernetes' resource, `part` the memory it takes of that."""

    kind: Literal["whole", "mig", "shared", "too_large"]
    key: str | None
    part: float
    text: str


#: Of a whole device, below which a part of one is enough; and how full a part may be.
_SMALL, _FULL = 0.5, 0.9


def advice(needed: GpuMemory, accelerator: Accelerator) -> Advice:
    """A whole device, the smallest MIG profile that holds it with room to spare, or a shared device."""
    part = needed.total / accelerator.memory
    found = f"{size(needed.total)} of {accelerator.name}'s {size(accelerator.memory)}"
    if part > 1:
        return Advice(kind="too_large", key=None, part=part, text=f"it needs {found}: more than one device has")
    fitting = [item for item in accelerator.mig if needed.total <= _FULL * item.memory]
    profile: MigProfile | None = min(fitting, key=lambda item: item.memory, default=None)
    if part < _SMALL and profile is not None and profile.memory < accelerator.memory:
        text = f"it needs {found}: MIG profile {profile.name} ({size(profile.memory)}) holds it, isolated from others"
        return Advice(kind="mig", key=profile.key, part=needed.total / profile.memory, text=text)
    if part < _SMALL:
        count = int(1 / part)
        text = f"it needs {found}: up to {count} such replicas may share a device (time slicing, MPS), not isolated"
        return Advice(kind="shared", key=accelerator.key, part=part, text=text)
    return Advice(kind="whole", key=accelerator.key, part=part, text=f"it needs {found}: a whole device")
