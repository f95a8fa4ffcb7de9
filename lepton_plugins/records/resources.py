"""The part `resources` of a plan file: what a plan may use, and what it must bear."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from lepton_plugins.records.quantity import Bytes, Cores, Rate, Seconds
from lepton_plugins.records.record import SpecRecord, Versions


def _two(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(values) != 2:
        raise ValueError(f"found {list(values)}, expected two versions such as [1, 3]")
    return values


Pair = Annotated[Versions, AfterValidator(_two)]


class Budget(SpecRecord):
    """What all arms together may use. None: no limit."""

    cpu: Cores | None = None
    """Cores. Needs `load`, from which the use of CPU follows."""
    memory: Bytes | None = None
    """Sum of the versions' peak memory, each measured in a process of its own."""
    gpu: Annotated[float, Field(ge=0)] | None = None
    """Devices; a version that was seen to hold GPU memory takes one."""
    gpu_memory: Bytes | None = None
    """Sum of the GPU memory that the versions were seen to hold."""


class Toleration(SpecRecord):
    """A taint of a pool's nodes that its replicas bear, in Kubernetes' words."""

    key: str | None = None
    """The taint's key; absent: all keys, with operator Exists."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Equal compares the value, Exists doesn't."""
    value: str | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Absent: all effects."""


class Pool(SpecRecord):
    """Nodes that are alike. Amounts are those of one node that replicas may have."""

    nodes: Annotated[int, Field(ge=1)] = 1
    """How many there are, or may be started."""
    cpu: Cores
    """Cores of a node."""
    memory: Bytes
    """Memory of a node."""
    gpu: Annotated[int, Field(ge=0)] = 0
    """Devices of a node."""
    gpu_memory: Bytes | None = None
    """Memory of one device; absent: not looked at."""
    gpu_key: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] | None = None
    """Kubernetes' resource of one device, such as nvidia.com/mig-1g.10gb; absent: nvidia.com/gpu."""
    device_class: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")] | None = None
    """The class of which devices are claimed (DRA) in the place of a resource, such as gpu.nvidia.com."""
    price: Annotated[float, Field(ge=0)] = 0.0
    """What a node that is used costs, in any unit; objective.price says what a unit is worth."""
    speed: Annotated[float, Field(gt=0)] = 1.0
    """Rows a second here, as a multiple of what the evaluation's machine did."""
    budget: Budget = Budget()
    """What all replicas on this pool together may use, where that is less than its nodes have."""
    labels: dict[str, str] = {}
    """Labels by which Kubernetes finds the nodes."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that its replicas bear."""


class Slo(SpecRecord):
    """What a version must keep, or it is rejected."""

    p99: Seconds | None = None
    """Latency of one row that 99 % of the calls stay below, as the evaluation measured it; `around.degrade` keeps
    it under load."""
    mixture_p99: Seconds | None = None
    """Latency that 99 % of all answers together stay below: a slow version may answer a part of them. From the p50, p95
    and p99 of each version's calls, measured alone."""


class ResourceSpec(SpecRecord):
    """What the plan may use, and what it must bear."""

    budget: Budget = Budget()
    pools: dict[Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")], Pool] = {}
    """Node pools by name: how many replicas of each version run on which is then decided, too."""
    load: Rate | None = None
    """Rows a second that must be answered."""
    headroom: Annotated[float, Field(ge=0)] = 0.0
    """Throughput kept beyond the load, as a part of it: 0.2 is enough for 1.2 times the load."""
    replica_cpu: Annotated[Cores, Field(gt=0)] = 1.0
    """Cores of one replica, where there are pools: it bears as many times the rows that one core was measured to."""
    batch: Annotated[int, Field(ge=1)] = 1
    """Rows of a request: throughput and latency are those of the largest batch measured that is no larger."""
    min_replicas: Annotated[int, Field(ge=1)] = 1
    """The least replicas of a version that runs. Counts with `pools`."""
    survive: Literal["node"] | None = None
    """node: each version still bears its share when any one node is lost; at most one of its replicas a node."""
    slo: Slo = Slo()
    max_versions: Annotated[int, Field(ge=1)] | None = None
    """How many versions may run, default arm, fallback and shadows counted."""
    min_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The least part of the traffic that a version is run for; the default arm and the fallback may have less."""
    model_memory: Annotated[Bytes, Field(gt=0)] | None = None
    """Bytes of versions' files that stay loaded where the plan is served; others are loaded when asked for."""
    on_gpu: Versions = ()
    """Versions that run on a GPU although they were evaluated without one: each takes one device, and the GPU memory
    that its report estimates. Those that were seen to hold GPU memory do so anyway."""
    conflicts: tuple[Pair, ...] = ()
    """Pairs of versions that must not run together, such as [[1, 3]]."""

    @model_validator(mode="after")
    def _cpu_by_load(self) -> ResourceSpec:
        if self.budget.cpu is not None and self.load is None:
            raise ValueError("found a budget of cpu without load, expected load (such as 200/s): CPU follows from it")
        if self.pools and self.load is None:
            raise ValueError("found pools without load, expected load (such as 200/s): replicas follow from it")
        if self.survive is not None and not self.pools:
            raise ValueError("found survive without pools, expected resources.pools: it is said of their nodes")
        return self
