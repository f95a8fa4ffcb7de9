"""What a version costs, as its report measured it."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_plugins.planning.latency import Latency
from lepton_plugins.planning.quantity import amount
from lepton_plugins.records.report import EvaluationReport, Quantity
from lepton_plugins.records.resources import Pool, ResourceSpec


@dataclass(frozen=True, slots=True)
class Cost:
    """`cpu` in core-seconds a row, `memory` and `gpu_memory` in bytes, `gpu` devices, `p99_ms` of one call.

    None where the report doesn't say. A version that was seen to hold GPU memory takes one device, and so does one
    that the plan file has run on a GPU: with the estimate of its report, where it was evaluated without.
    """

    cpu: float | None
    memory: float | None
    gpu: float
    gpu_memory: float
    p99_ms: float | None
    latency: Latency | None = None

    def exceeds(self, resources: ResourceSpec) -> tuple[str, str] | None:
        """Why no plan within these resources can hold the version: a code and a sentence."""
        budget = resources.budget
        if budget.memory is not None and self.memory is None:
            return "cost_unknown", "its report has no peak memory, and the plan has a budget of memory"
        if budget.cpu is not None and self.cpu is None:
            return "cost_unknown", "its report has no throughput, and the plan has a budget of cpu"
        if resources.pools:
            unfit = self._beside_pools(resources)
            if unfit is not None:
                return unfit
        for resource in ("memory", "gpu", "gpu_memory"):
            limit, use = getattr(budget, resource), getattr(self, resource)
            if limit is not None and use > limit:
                found, whole = amount(resource, use), amount(resource, limit)
                return "over_budget", f"it alone needs {found}, resources.budget.{resource} is {whole}"
        return None

    def fits(self, pool: Pool, cores: float) -> bool:
        """Whether a replica with so many cores runs on a node of this pool."""
        return (
            cores <= pool.cpu
            and (self.memory or 0.0) <= pool.memory
            and self.gpu <= pool.gpu
            and (pool.gpu_memory is None or self.gpu_memory <= pool.gpu_memory * max(self.gpu, 1.0))
        )

    def _beside_pools(self, resources: ResourceSpec) -> tuple[str, str] | None:
        for name, value in (("throughput", self.cpu), ("peak memory", self.memory)):
            if value is None:
                return "cost_unknown", f"its report has no {name}, and the plan has node pools"
        cores = resources.replica_cpu
        if not any(self.fits(pool, cores) for pool in resources.pools.values()):
            parts = {"cpu": cores, "memory": self.memory, "gpu": self.gpu, "gpu_memory": self.gpu_memory}
            needs = ", ".join(amount(resource, value) for resource, value in parts.items() if value)
            names = ", ".join(resources.pools)
            return "fits_no_node", f"a replica needs {needs}, which no node of resources.pools ({names}) has"
        return None


def held_on_gpu(report: EvaluationReport) -> Quantity | None:
    """GPU memory in bytes, as measured, else as estimated."""
    measured = report.resources.gpu_memory
    return measured if measured is not None and measured.value > 0 else report.resources.gpu_estimate


def cost_of(report: EvaluationReport, batch: int = 1, *, on_gpu: bool = False) -> Cost:
    """The costs in a report, at the largest batch measured that is no larger than `batch`, else at the smallest.

    `on_gpu`: the plan file says that the version runs on a GPU, seen there or not.
    """
    sizes = sorted(report.latency, key=lambda item: item.batch_size)
    smallest = next((item for item in reversed(sizes) if item.batch_size <= batch), sizes[0] if sizes else None)
    memory, gpu_memory = report.resources.peak_memory, report.resources.gpu_memory
    held = gpu_memory.value if gpu_memory is not None else 0.0
    known = held_on_gpu(report) if on_gpu else None
    held = known.value if known is not None else held
    return Cost(
        cpu=1.0 / smallest.rows_per_second if smallest is not None and smallest.rows_per_second > 0 else None,
        memory=memory.value if memory is not None else None,
        gpu=1.0 if held > 0 else 0.0,
        gpu_memory=held,
        p99_ms=smallest.p99_ms if smallest is not None else None,
        latency=Latency(smallest.p50_ms, smallest.p95_ms, smallest.p99_ms) if smallest is not None else None,
    )
