"""A plan taken apart: what the service of one version is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from lepton_plugins.distribution import services_of, write_router, write_service
from lepton_plugins.errors import DirectoryInvalid
from lepton_plugins.records.plan import ArmResources, DeploymentPlan
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import write_deployment


@pytest.fixture
def plan(tmp_path: Path) -> DeploymentPlan:
    return write_deployment(tmp_path / "deployment").model_copy(update={"topology": "distributed"})


def test_a_service_has_what_a_replica_of_its_version_is_given(plan: DeploymentPlan) -> None:
    given = ArmResources(replicas=2, cpu=8.0, memory=2**30, gpu=2.0)
    arms = (plan.arms[0].model_copy(update={"resources": given}), plan.arms[1])
    first, _ = services_of(plan.model_copy(update={"arms": arms}))
    (arm,) = first.plan.arms
    assert arm.resources == ArmResources(cpu=4.0, gpu=1.0)
    assert first.plan.around.guard == "closed", "nobody asks a service for another version"
    assert first.plan.around.sticky is None
    assert first.plan.topology == "embedded"
    assert first.arm.resources == given


def test_a_version_without_signature_isnt_given_what_only_the_router_reads(plan: DeploymentPlan) -> None:
    arms = tuple(arm.model_copy(update={"signature": None}) for arm in plan.arms)
    for service in services_of(plan.model_copy(update={"arms": arms})):
        assert service.plan.signature.input_names == ("x",), "the unit's key stays with the router"


def test_the_directories_hold_each_version_once(plan: DeploymentPlan, tmp_path: Path) -> None:
    opened = DeploymentDirectory(tmp_path / "deployment", plan, {})
    services = services_of(plan, "local")
    (service,) = services
    (tmp_path / "service").mkdir()
    write_service(opened, service, tmp_path / "service")
    with Router.load(tmp_path / "service") as router:
        assert [arm.version for arm in router.plan.arms] == ["2"]
    (tmp_path / "router").mkdir()
    write_router(opened, services, tmp_path / "router", lambda item, folder: (folder / "remote.json").write_text("{}"))
    models = [path.name for path in (tmp_path / "router" / "models").iterdir()]
    assert models == [plan.arms[0].artifact_digest.removeprefix("sha256:")]
    assert DeploymentDirectory.open(tmp_path / "router").plan.digest == plan.digest
    # A version is neither here nor elsewhere.
    (tmp_path / "router" / "services").rename(tmp_path / "elsewhere")
    with pytest.raises(DirectoryInvalid, match="the files of version 2 are missing"):
        DeploymentDirectory.open(tmp_path / "router")
