"""What one process of a plan needs, by its figures: one with all versions, one of a single version, a router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from lepton_plugins.records.plan import Arm, DeploymentPlan
from lepton_plugins.records.resources import Pool

#: Seconds, about, that the data plane takes for a request beside the model, which was measured alone; what is
#: right depends on the requests' size and the machine, so targets let it be given.
REQUEST_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class Need:
    """Of one replica: `cpu` in cores, `memory` and `gpu_memory` in bytes, `gpu` devices."""

    cpu: float = 0.0
    memory: float = 0.0
    gpu: int = 0
    gpu_memory: int = 0
    replicas: int = 1
    pools: Mapping[str, Pool] = field(default_factory=dict)
    requests: float | None = None
    """Requests a second that a replica is to have when the autoscaler is content; None where no load is planned."""
    at_once: float | None = None
    """Requests at once, of the same replica."""
    one_a_node: bool = False
    survives: bool = False
    """Whether the loss of a node must be borne: no two replicas on one."""

    @property
    def most(self) -> int:
        """As many replicas as the pools' nodes have room for."""
        return sum(
            pool.nodes * (1 if self.one_a_node or self.survives else self._on(pool)) for pool in self.pools.values()
        )

    def _on(self, pool: Pool) -> int:
        parts = ((pool.cpu, self.cpu), (pool.memory, self.memory), (pool.gpu, self.gpu))
        return max(min((int(has / needs) for has, needs in parts if needs), default=1), 1)


def need_of_all(plan: DeploymentPlan) -> Need:
    """Of the one process that holds all versions: the plan has at most one a node."""
    replicas = max(arm.resources.replicas for arm in plan.arms)
    return replace(
        _need(plan, plan.arms, replicas), requests=_requests(plan, plan.spec.resources.load, replicas), one_a_node=True
    )


def need_of_one(plan: DeploymentPlan, arm: Arm, request_seconds: float = REQUEST_SECONDS) -> Need:
    """Of the service of one version: its measured throughput less the head-room, else its part of the load."""
    resources, replicas = plan.spec.resources, arm.resources.replicas
    found = _need(plan, [arm], replicas)
    if arm.resources.throughput:
        measured = arm.resources.throughput / (1 + resources.headroom) / resources.batch
        return replace(found, requests=1 / (1 / measured + request_seconds))
    return replace(found, requests=_requests(plan, (resources.load or 0.0) * arm.share, replicas))


def need_of_router(plan: DeploymentPlan, local: Sequence[Arm], services: Sequence[Need]) -> Need:
    """Of the router before services: the versions that it runs itself; two replicas where a node may be lost.

    It computes little and waits for services: what is at work there at once is at work here.
    """
    replicas = 2 if plan.spec.resources.survive == "node" else 1
    waiting = sum((item.at_once or 0.0) * item.replicas for item in services) / replicas
    found = _need(plan, local, replicas)
    return replace(found, requests=_requests(plan, plan.spec.resources.load, replicas), at_once=waiting or None)


def _need(plan: DeploymentPlan, arms: Sequence[Arm], replicas: int) -> Need:
    """The sum over the arms of what one replica of each is given."""
    resources = plan.spec.resources
    given = [(arm.resources, arm.resources.replicas) for arm in arms]
    cpu = sum((item.cpu or 0.0) / of for item, of in given)
    names = sorted({name for item, _ in given for name in item.pools})
    return Need(
        cpu=cpu,
        memory=sum((item.memory or 0) / of for item, of in given),
        gpu=ceil(sum((item.gpu or 0.0) / of for item, of in given)),
        gpu_memory=ceil(sum((item.gpu_memory or 0) / of for item, of in given)),
        replicas=replicas,
        pools={name: resources.pools[name] for name in names},
        # A core works on one request at a time.
        at_once=max(cpu / (1 + resources.headroom), 1.0) if cpu else None,
        survives=resources.survive == "node",
    )


def _requests(plan: DeploymentPlan, rows: float | None, replicas: int) -> float | None:
    return rows / plan.spec.resources.batch / replicas if rows else None
