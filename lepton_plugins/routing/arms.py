"""A plan's arms, ready to answer: those that are loaded, and those that a shelf loads when they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lepton_plugins.records.plan import Arm, DeploymentPlan
from lepton_plugins.routing.arm_load import ArmLoad
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.loaded_arm import LoadedArm, RunningArm, connections_of, parallel_calls, streams
from lepton_plugins.routing.on_demand import ArmOnDemand, Shelf

#: Makes the shelf of the arms that aren't loaded, with what it takes to make an arm of a model.
MakeShelf = Callable[[Callable[[Arm, LoadedModel], LoadedArm]], Shelf]


class Arms:
    """`running` are the arms in the plan's order, `loads` what they have to do, where the plan degrades.

    `models` are the loaded ones by version; `context` are columns that the router takes for itself.
    So many `processes` share the machine's cores.
    """

    def __init__(
        self,
        plan: DeploymentPlan,
        models: Mapping[str, LoadedModel],
        classes: Sequence[str],
        context: frozenset[str],
        make_shelf: MakeShelf | None,
        processes: int = 1,
    ) -> None:
        self._plan, self._classes, self._context = plan, classes, context
        degrade = plan.around.degrade
        self._loads = {
            arm.version: ArmLoad(parallel_calls(models.get(arm.version), processes), degrade.hold)
            for arm in plan.arms
            if degrade is not None
        }
        self.loads = tuple(self._loads.values())
        self.shelf = make_shelf(self._ready) if make_shelf is not None else None
        self.running: tuple[RunningArm, ...] = tuple(
            self._ready(arm, models[arm.version])
            if self.shelf is None or arm.version in models
            else ArmOnDemand(arm, self.shelf)
            for arm in plan.arms
        )
        self.shadows = [arm for arm in self.running if arm.version in plan.around.shadow]
        #: Whether a call may wait for another host, or for a version to be loaded.
        self.wait = self.shelf is not None or any(connections_of(model) is not None for model in models.values())
        #: Whether one may answer in parts.
        self.stream = self.shelf is not None or any(streams(model) for model in models.values())

    def _ready(self, arm: Arm, model: LoadedModel) -> LoadedArm:
        plan = self._plan
        objective = plan.spec.resources.slo.p99
        load = self._loads.get(arm.version)
        return LoadedArm(arm, model, plan.output, self._classes, plan.signature, self._context, objective, load)
