"""What a version costs, as its report measured it."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_plugins.planning.quantity import amount
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.spec import ResourceSpec


@dataclass(frozen=True, slots=True)
class Cost:
    """`cpu` in core-seconds a row, `memory` and `gpu_memory` in bytes, `gpu` devices, `p99_ms` of one row.

    None where the report doesn't say. A version that was seen to hold GPU memory takes one device.
    """

    cpu: float | None
    memory: float | None
    gpu: float
    gpu_memory: float
    p99_ms: float | None

    def exceeds(self, resources: ResourceSpec) -> tuple[str, str] | None:
        """Why no plan within these resources can hold the version: a code and a sentence."""
        budget = resources.budget
        if budget.memory is not None and self.memory is None:
            return "cost_unknown", "its report has no peak memory, and the plan has a budget of memory"
        if budget.cpu is not None and self.cpu is None:
            return "cost_unknown", "its report has no throughput, and the plan has a budget of cpu"
        for resource in ("memory", "gpu", "gpu_memory"):
            limit, use = getattr(budget, resource), getattr(self, resource)
            if limit is not None and use > limit:
                found, whole = amount(resource, use), amount(resource, limit)
                return "over_budget", f"it alone needs {found}, resources.budget.{resource} is {whole}"
        return None


def cost_of(report: EvaluationReport) -> Cost:
    """The costs in a report. CPU counts the smallest batch measured: requests of one row are the dear ones."""
    smallest = min(report.latency, key=lambda item: item.batch_size, default=None)
    memory, gpu_memory = report.resources.peak_memory, report.resources.gpu_memory
    held = gpu_memory.value if gpu_memory is not None else 0.0
    return Cost(
        cpu=1.0 / smallest.rows_per_second if smallest is not None and smallest.rows_per_second > 0 else None,
        memory=memory.value if memory is not None else None,
        gpu=1.0 if held > 0 else 0.0,
        gpu_memory=held,
        p99_ms=smallest.p99_ms if smallest is not None else None,
    )
