"""What one process of a plan needs, by the plan's figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from lepton_plugins.needs import need_of_all, need_of_one, need_of_router
from lepton_plugins.records.plan import ArmResources, DeploymentPlan
from lepton_plugins.records.resources import ResourceSpec
from lepton_plugins.testing import write_deployment

POOL = {"nodes": 3, "cpu": 4, "memory": "8Gi"}


@pytest.fixture
def plan(tmp_path: Path) -> DeploymentPlan:
    """Two replicas of 2 cores and 1 GiB of each version, which bear 400 rows a second each."""
    found = write_deployment(tmp_path / "deployment")
    given = ArmResources(replicas=2, pools={"small": 2}, cpu=4.0, memory=2 * 2**30, throughput=400.0)
    resources = {"load": "600/s", "batch": 2, "headroom": 0.25, "pools": {"small": POOL}}
    spec = found.spec.model_copy(update={"resources": ResourceSpec.model_validate(resources)})
    arms = tuple(arm.model_copy(update={"resources": given}) for arm in found.arms)
    return found.model_copy(update={"arms": arms, "spec": spec})


def test_a_version_alone(plan: DeploymentPlan) -> None:
    need = need_of_one(plan, plan.arms[0])
    assert (need.cpu, need.memory, need.replicas) == (2.0, 2**30, 2)
    assert need.requests == pytest.approx(1 / (1 / 160 + 0.0005)), "400 rows in twos, a quarter kept, HTTP beside"
    assert need.at_once == 2 / 1.25
    assert need.most == 6, "two on each of three nodes"


def test_a_tiny_version_is_bounded_by_the_data_plane(plan: DeploymentPlan) -> None:
    quick = plan.arms[0].resources.model_copy(update={"throughput": 1e6})
    need = need_of_one(plan, plan.arms[0].model_copy(update={"resources": quick}))
    assert need.requests is not None
    assert need.requests < 2000
    slower = need_of_one(plan, plan.arms[0].model_copy(update={"resources": quick}), request_seconds=0.002)
    assert slower.requests is not None
    assert slower.requests < 500


def test_one_process_with_all_and_a_router_with_none(plan: DeploymentPlan) -> None:
    together = need_of_all(plan)
    assert (together.cpu, together.replicas, together.most) == (4.0, 2, 3)
    assert together.requests == 600 / 2 / 2
    services = [need_of_one(plan, arm) for arm in plan.arms]
    router = need_of_router(plan, [], services)
    assert (router.cpu, router.memory, router.replicas, router.pools) == (0.0, 0.0, 1, {})
    assert router.at_once == sum(2 * (item.at_once or 0) for item in services), "it waits for what is at work there"
