"""Topology `distributed`, taken apart: a deployment directory for each version's own service, one for the router.

The router's holds the plan as it was promoted, so decisions name the plan that the registry knows; where a service runs
a version, `services/<artifact digest>/` says where instead of its files. A service's plan has one arm and is derived.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lepton_plugins.planning.pin import fixed_shares
from lepton_plugins.records.around import Around
from lepton_plugins.records.plan import Allocation, Arm, ArmResources, DeploymentPlan
from lepton_plugins.records.signature import Signature
from lepton_plugins.records.spec import PlanSpec, PolicySpec
from lepton_plugins.routing.directory import MODELS, SERVICES, DeploymentDirectory, digest_hex, write_plan

Fallback = Literal["service", "local"]
_REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Service:
    """A version with a service of its own: the arm as the plan has it, and the plan that its service answers by."""

    arm: Arm
    plan: DeploymentPlan


def services_of(plan: DeploymentPlan, fallback: Fallback = "service") -> tuple[Service, ...]:
    """The versions that get a service. `local`: the one that answers when others can't runs in the router instead.

    Versions with the same bytes share a service, which is named by the first of them. A version that another server
    runs already (format `remote`) gets none: the router asks that server.
    """
    local = plan.arm(fallback_of(plan)) if fallback == "local" else None
    first: dict[str, Arm] = {}
    for arm in plan.arms:
        if arm.format != _REMOTE and (local is None or arm.artifact_digest != local.artifact_digest):
            first.setdefault(arm.artifact_digest, arm)
    return tuple(Service(arm, _alone(plan, arm)) for arm in first.values())


def fallback_of(plan: DeploymentPlan) -> str:
    """The version that answers when the chosen one can't."""
    return plan.around.fallback or plan.default


def write_service(directory: DeploymentDirectory, service: Service, to: Path) -> None:
    """Write the deployment directory of one version's service."""
    write_plan(service.plan, {}, to)
    _copy(directory.check_model(service.arm), to / MODELS / digest_hex(service.arm.artifact_digest, to))


def write_router(
    directory: DeploymentDirectory, services: tuple[Service, ...], to: Path, point: Callable[[Service, Path], object]
) -> None:
    """Write the router's deployment directory; `point` writes into a folder what says where a service is."""
    write_plan(directory.plan, directory.policy_files, to)
    apart = {service.arm.artifact_digest for service in services}
    (to / MODELS).mkdir()
    for service in services:
        folder = to / SERVICES / digest_hex(service.arm.artifact_digest, to)
        folder.mkdir(parents=True)
        point(service, folder)
    for arm in directory.plan.arms:
        target = to / MODELS / digest_hex(arm.artifact_digest, to)
        if arm.artifact_digest not in apart and not target.exists():
            _copy(directory.check_model(arm), target)


def _alone(plan: DeploymentPlan, arm: Arm) -> DeploymentPlan:
    """The plan with one arm, which answers everything: what the router does around it isn't done again.

    It follows from the version and what a replica of it is given: other changes of the plan restart no service.
    """
    params = {"shares": {arm.version: 1.0}}
    around = Around(guard="closed", breaker=None)
    spec = PlanSpec(
        model=plan.model,
        versions=(arm.version,),
        default=arm.version,
        output=plan.output,
        policy=PolicySpec(kind="weighted", params=params),
        around=around,
    )
    changes = {
        "parent": None,
        "signature": arm.signature or _without_context(plan),
        "arms": (arm.model_copy(update={"share": 1.0, "resources": _of_a_replica(arm)}),),
        "default": arm.version,
        "policy": fixed_shares(params, [arm.version], arm.version),
        "around": around,
        "per": "row",
        "topology": "embedded",
        "baseline": None,
        "allocation": Allocation(solver="none", status="fixed"),
        "gain": None,
        "rejected": (),
        "warnings": (),
        "evidence": (),
        "spec": spec,
    }
    return plan.model_copy(update=changes)


def _of_a_replica(arm: Arm) -> ArmResources:
    """What its threads and its place, a GPU or beside it, follow from."""
    given = arm.resources
    return ArmResources(
        cpu=given.cpu / given.replicas if given.cpu else None, gpu=given.gpu / given.replicas if given.gpu else None
    )


def _without_context(plan: DeploymentPlan) -> Signature:
    """What an arm that doesn't say is given: everything but the columns that only the router reads."""
    taken = {name for arm in plan.arms if arm.signature is not None for name in arm.signature.input_names}
    sticky = () if plan.around.sticky is None else (plan.around.sticky.key,)
    read = {*plan.policy.features, *plan.spec.decisions.columns, *sticky} - taken
    inputs = tuple(field for field in plan.signature.inputs if field.name not in read)
    return Signature(layout=plan.signature.layout, inputs=inputs)


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
