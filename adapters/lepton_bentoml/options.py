"""Options of the target `bentoml`, and the service's configuration that they make."""

from __future__ import annotations

from math import ceil
from typing import Any, Literal

from pydantic import Field

from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.record import Record
from lepton_plugins.records.spec import Bytes, Cores, Seconds


class BentomlOptions(Record):
    """What `--option key=value` may say. BentoML drops keys that it doesn't know: these it knows (1.4)."""

    name: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """The bento's and the service's; default: the model's name with -router."""
    cpu: Cores | None = Field(default=None, gt=0)
    memory: Bytes | None = Field(default=None, gt=0)
    """Of one replica, all workers together; default: the plan's."""
    gpu: int | None = Field(default=None, ge=1)
    workers: int | Literal["cpu_count"] = Field(default=1, union_mode="left_to_right")
    timeout: Seconds = 60.0
    max_concurrency: int | None = Field(default=None, ge=1)
    """Requests at once; the next is refused."""
    lepton_requirement: str | None = None
    """A requirement such as lepton-plugins==0.1.0, instead of embedding Lepton's packages."""
    requirements: str = ""
    """Further requirements, separated by commas."""


def service_config(plan: DeploymentPlan, name: str, o: BentomlOptions) -> dict[str, Any]:
    """The arguments of `bentoml.service`. Without a figure a key is left out: BentoML refuses `gpu: 0`."""
    replicas = max(arm.resources.replicas for arm in plan.arms)
    cpu = o.cpu or sum(arm.resources.cpu or 0 for arm in plan.arms) / replicas
    memory = o.memory or sum(arm.resources.memory or 0 for arm in plan.arms) / replicas
    gpu = o.gpu or ceil(sum(arm.resources.gpu or 0 for arm in plan.arms) / replicas)
    resources: dict[str, Any] = {}
    if cpu:
        resources["cpu"] = f"{ceil(cpu * 1000)}m"
    if memory:
        resources["memory"] = f"{ceil(memory / 2**20)}Mi"  # A bare number would be read as Gi.
    if gpu:
        resources["gpu"] = gpu
    traffic: dict[str, Any] = {"timeout": o.timeout}
    if o.max_concurrency is not None:
        traffic["max_concurrency"] = o.max_concurrency
    config: dict[str, Any] = {"name": name, "traffic": traffic, "workers": o.workers}
    return config | ({"resources": resources} if resources else {})
