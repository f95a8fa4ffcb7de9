"""Which share of an accelerator each version of a plan wants: a whole device, a MIG profile, or one that is shared."""

from __future__ import annotations

from typing import Literal

from lepton_plugins.gpu.accelerators import accelerator
from lepton_plugins.gpu.memory import Advice, GpuMemory, advice
from lepton_plugins.planning.cost import held_on_gpu
from lepton_plugins.planning.planned import PlannedDeployment
from lepton_plugins.records.record import Record
from lepton_plugins.registry import Registry


class VersionAdvice(Record):
    """`memory` in bytes, and how it is known; both None, and no advice, where the report has neither figure."""

    version: str
    memory: float | None = None
    how: Literal["measured", "estimated"] | None = None
    advice: Advice | None = None


def gpu_advice(registry: Registry, planned: PlannedDeployment, name: str) -> tuple[VersionAdvice, ...]:
    """For each arm of the plan on the accelerator `name`. InvalidInput with the nearest name where nobody knows it."""
    kind, found = accelerator(name), []
    for arm in planned.plan.arms:
        report = registry.get_report(planned.plan.model, arm.version)
        held = None if report is None else held_on_gpu(report)
        if held is None:
            found.append(VersionAdvice(version=arm.version))
            continue
        needed = GpuMemory(weights=int(held.value), activations=0, workspace=0, context=0)
        told = advice(needed, kind)
        found.append(VersionAdvice(version=arm.version, memory=held.value, how=held.how, advice=told))
    return tuple(found)
