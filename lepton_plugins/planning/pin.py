"""A pin: the plan in force, with all traffic to one version."""

from __future__ import annotations

from typing import Literal

from lepton_plugins.errors import ArmMissing, NoArmLeft
from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.planning.candidates import Candidate, admit, by_number
from lepton_plugins.planning.gain import compiled
from lepton_plugins.planning.inputs import conflict, union
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.planned import PlannedDeployment, SegmentShares
from lepton_plugins.plugins import plugins
from lepton_plugins.records.plan import Allocation, Arm, DeploymentPlan, PolicyDocument
from lepton_plugins.records.spec import Objective, PlanSpec, PolicySpec
from lepton_plugins.registry import Registry

_KIND = "weighted"


def pinned_plan(
    registry: Registry, model: str, version: str, *, trust: Literal["pickle"] | None = None
) -> PlannedDeployment:
    """The plan that pins `version` (number or label): the one in force with its arms, else one of it alone.

    `trust` is for a version that isn't an arm yet, as in planning.

    Raises VersionNotFound; NoArmLeft or ArmMissing where a version that isn't an arm yet can't become one.
    """
    name = registry.get_version(model, version).version
    in_force = registry.plan_in_force(model)
    if in_force is None:
        policy = PolicySpec(kind=_KIND, params={"shares": {name: 1.0}})
        return make_plan(registry, PlanSpec(model=model, versions=(name,), policy=policy), trust=trust)
    plan = _pinned(registry, registry.get_plan(in_force)[0], name, trust)
    whole = SegmentShares(segment="–", traffic=1.0, rows=0, shares={name: 1.0}, reason="pinned")
    return PlannedDeployment(plan=plan, segments=(whole,), verdict=f"Pinned: version {name} answers everything.")


def _pinned(registry: Registry, plan: DeploymentPlan, name: str, trust: Literal["pickle"] | None) -> DeploymentPlan:
    arms, evidence, signature = list(plan.arms), list(plan.evidence), plan.signature
    if plan.arm(name) is None:
        candidate = _admitted(registry, plan, name, trust)
        added = candidate.arm(0.0, plan.spec, 0.0, {})
        arms = sorted([*arms, added], key=lambda arm: by_number(arm.version))
        evidence.append(candidate.evidence)
        signature = union([signature, candidate.signature])
    shadow = tuple(version for version in plan.around.shadow if version != name)
    around = plan.around.model_copy(update={"holdout": 0.0, "explore": 0.0, "shadow": shadow, "degrade": None})
    params = {"shares": {name: 1.0}}
    spec = PlanSpec(
        model=plan.model,
        versions=tuple(arm.version for arm in arms),
        default=plan.default,
        output=plan.output,
        objective=Objective(metric=plan.spec.objective.metric),
        policy=PolicySpec(kind=_KIND, params=params),
        around=around,
        decisions=plan.spec.decisions,
        resources=plan.spec.resources,
        topology=plan.topology,
        per=plan.per,
    )
    changes = {
        "parent": plan.digest,
        "signature": signature,
        "arms": tuple(_with_share(arm, 1.0 if arm.version == name else 0.0) for arm in arms),
        "policy": fixed_shares(params, [arm.version for arm in arms], plan.default),
        "around": around,
        "allocation": Allocation(solver="none", status="fixed"),
        "gain": None,
        "rejected": tuple(item for item in plan.rejected if item.version != name),
        "warnings": (),
        "evidence": tuple(evidence),
        "spec": spec,
    }
    return plan.model_copy(update=changes)


def _admitted(registry: Registry, plan: DeploymentPlan, name: str, trust: Literal["pickle"] | None) -> Candidate:
    """A version that isn't an arm of the plan in force, judged as for a plan and beside its arms."""
    spec = PlanSpec(model=plan.model, output=plan.output, resources=plan.spec.resources)
    admission = admit(registry, spec, [registry.get_version(plan.model, name)], leader=None, trust=trust)
    if not admission.candidates:
        raise NoArmLeft(plan.model, [(item.version, item.reason) for item in admission.rejected])
    candidate = admission.candidates[0]
    names = [arm.version for arm in plan.arms]
    if plan.classes and candidate.report.classes != plan.classes:
        found = f"its classes are {', '.join(candidate.report.classes)}, the plan's {', '.join(plan.classes)}"
        raise ArmMissing(name, "pin", names, found)
    for arm in plan.arms:
        clash = conflict(candidate.signature, arm.signature, arm.version)
        if clash is not None:
            raise ArmMissing(name, "pin", names, clash)
    return candidate


def _with_share(arm: Arm, share: float) -> Arm:
    """The arm with another share; the CPU follows where the old share tells what a row costs."""
    cpu = arm.resources.cpu
    if cpu is not None:
        cpu = cpu / arm.share * share if arm.share else (None if share else 0.0)
    return arm.model_copy(update={"share": share, "resources": arm.resources.model_copy(update={"cpu": cpu})})


def fixed_shares(params: dict[str, dict[str, float]], arms: list[str], default: str) -> PolicyDocument:
    """The policy `weighted` with these parameters, compiled: no evidence is needed for it."""
    policy = plugins().load("policy", _KIND)
    accepted = policy.Params.model_validate(params)
    made = policy.compile(accepted, PairedPredictions.without_rows(arms, default), None, None, arms, None)
    return compiled(_KIND, policy, accepted, made, arms, default).document
