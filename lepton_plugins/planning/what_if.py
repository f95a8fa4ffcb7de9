"""What a plan would be with other resources: by making it again, nothing stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from lepton_plugins.errors import ArmMissing, Infeasible, InvalidInput, NoArmLeft, NoSolutionInTime, nearest
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.planned import PlannedDeployment
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.records.plan import Gain
from lepton_plugins.records.record import Record
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.registry import Registry

#: What may be changed, and its place in the plan file.
KEYS: dict[str, tuple[str, ...]] = {
    "load": ("resources", "load"),
    "cpu": ("resources", "budget", "cpu"),
    "memory": ("resources", "budget", "memory"),
    "gpu": ("resources", "budget", "gpu"),
    "gpu_memory": ("resources", "budget", "gpu_memory"),
    "p99": ("resources", "slo", "p99"),
    "mixture_p99": ("resources", "slo", "mixture_p99"),
    "headroom": ("resources", "headroom"),
    "batch": ("resources", "batch"),
    "replica_cpu": ("resources", "replica_cpu"),
    "min_replicas": ("resources", "min_replicas"),
    "survive": ("resources", "survive"),
    "price": ("objective", "price"),
    "max_versions": ("resources", "max_versions"),
    "min_share": ("resources", "min_share"),
}
#: What may be changed of a node pool: `pools.NAME.nodes` …
POOL_KEYS = ("nodes", "cpu", "memory", "gpu", "gpu_memory", "price", "speed")
#: One more of each: a core, a GiB, a device.
UNITS: dict[str, float] = {"cpu": 1, "memory": 2**30, "gpu": 1, "gpu_memory": 2**30}
Trusted = Literal["pickle"] | None


class Scenario(Record):
    """A plan as it would be: shares by version, objective, gain and use of resources; or why there is none."""

    name: str
    shares: dict[str, float] = {}
    objective: float | None = None
    gain: Gain | None = None
    used: dict[str, float] = {}
    replicas: dict[str, dict[str, int]] = {}
    """By version and pool; empty without pools."""
    cost: float | None = None
    """The price of the nodes used."""
    problem: str | None = None


class Margin(Record):
    """A budgeted resource, or a pool's nodes: how much of it the plan uses, and what one more unit would be worth.

    `worth` is how much higher the objective would be (a utility: at most 1 in `mixture` without weights); None
    where the shares are the policy's own and no solver chose.
    """

    resource: str
    used: float
    budget: float
    unit: float
    worth: float | None
    then: Scenario

    @property
    def utilisation(self) -> float:
        """The part of the budget that is used; 0 of a budget of nothing."""
        return self.used / self.budget if self.budget else 0.0


def margins(registry: Registry, planned: PlannedDeployment, *, trust: Trusted = None) -> tuple[Margin, ...]:
    """Utilisation of each budgeted resource, and the worth of one more unit of it by planning again.

    Both plans are solved without a gap, so that the difference isn't the solver's tolerance.
    """
    spec = planned.plan.spec
    exact = spec.model_copy(update={"solver": spec.solver.model_copy(update={"gap": 0.0})})
    before = planned.plan.allocation
    if before.gap:
        before = make_plan(registry, exact, trust=trust).plan.allocation
    limits = [(resource, unit, getattr(spec.resources.budget, resource)) for resource, unit in UNITS.items()]
    limits += [(f"pools.{name}.nodes", 1, pool.nodes) for name, pool in spec.resources.pools.items()]
    nodes = {f"pools.{name}.nodes": float(len(held)) for name, held in planned.plan.allocation.nodes.items()}
    found = []
    for resource, unit, budget in limits:
        if budget is None:
            continue
        then = scenario(registry, changed(exact, {resource: budget + unit}), f"{resource}+1", trust=trust)
        worth = None
        if then.objective is not None and before.objective is not None:
            worth = then.objective - before.objective
        found.append(
            Margin(
                resource=resource,
                used=(planned.plan.allocation.used | nodes).get(resource, 0.0),
                budget=budget,
                unit=unit,
                worth=worth,
                then=then,
            )
        )
    return tuple(found)


def what_if(
    registry: Registry, planned: PlannedDeployment, changes: Sequence[str], *, trust: Trusted = None
) -> tuple[Scenario, ...]:
    """The plan as it is, and as it would be with each of the changes, such as `load=400/s,memory=8Gi`."""
    spec = planned.plan.spec
    asked = [(text, changed(spec, read(text))) for text in changes]
    return (_scenario(planned, "as planned"), *(scenario(registry, spec, text, trust=trust) for text, spec in asked))


def scenario(registry: Registry, spec: PlanSpec, name: str, *, trust: Trusted = None) -> Scenario:
    """The plan that a plan file leads to; what makes it impossible is part of the answer."""
    try:
        return _scenario(make_plan(registry, spec, trust=trust), name)
    except (ArmMissing, Infeasible, NoArmLeft, NoSolutionInTime) as error:
        return Scenario(name=name, problem=str(error))


def _scenario(planned: PlannedDeployment, name: str) -> Scenario:
    plan = planned.plan
    return Scenario(
        name=name,
        shares={arm.version: arm.share for arm in plan.arms},
        objective=plan.allocation.objective,
        gain=plan.gain,
        used=plan.allocation.used,
        replicas={arm.version: arm.resources.pools for arm in plan.arms if arm.resources.pools},
        cost=plan.allocation.cost,
    )


def read(text: str) -> dict[str, str]:
    """`load=400/s,memory=8Gi` as keys and values. InvalidInput where a key isn't one of KEYS."""
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise InvalidInput(f"--what-if: found {part!r}, expected KEY=VALUE such as load=400/s.")
        if key not in KEYS and not _of_pool(key):
            names = f"{', '.join(KEYS)}, pools.NAME.({'|'.join(POOL_KEYS)})"
            raise InvalidInput(f"--what-if: found the key {key!r}, expected one of {names}.{nearest(key, KEYS)}")
        if key in found:
            raise InvalidInput(f"--what-if: found {key} twice in {text!r}, expected each key once.")
        found[key] = value
    return found


def _of_pool(key: str) -> bool:
    parts = key.split(".")
    return len(parts) == 3 and parts[0] == "pools" and parts[2] in POOL_KEYS


def _place(spec: PlanSpec, key: str) -> tuple[str, ...]:
    """Where a key stands in the plan file. InvalidInput where it names no pool of it."""
    if not _of_pool(key):
        return KEYS[key]
    _, pool, part = key.split(".")
    if pool not in spec.resources.pools:
        known = ", ".join(spec.resources.pools) or "none"
        raise InvalidInput(f"--what-if: found the pool {pool!r}, expected one of the plan file's: {known}.")
    return ("resources", "pools", pool, part)


def changed(spec: PlanSpec, changes: Mapping[str, object]) -> PlanSpec:
    """The plan file with other values, `none` for no limit. SpecInvalid where a value isn't one."""
    data = spec.model_dump(mode="json", exclude_unset=True)
    for key, value in changes.items():
        *above, last = _place(spec, key)
        at = data
        for name in above:
            at = at.setdefault(name, {})
        if value == "none":
            at.pop(last, None)
        else:
            at[last] = value
    return parse_spec(data)
