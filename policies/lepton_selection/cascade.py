"""`cascade`: the cheap version first; rows that it isn't sure of go on to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator

from lepton_plugins.errors import ArmMissing, PolicyUnfit
from lepton_plugins.records.plan import DeploymentPlan, PolicyDocument
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.routing.policy import (
    Batch,
    Candidate,
    Choice,
    CompiledPolicy,
    Consulted,
    Proposal,
    RowChoice,
    Run,
    SelectionPolicy,
)
from lepton_selection.confidence import Calibration
from lepton_selection.stages import MOST as _MOST
from lepton_selection.stages import Short, fit, mixed, worthwhile
from lepton_selection.thresholds import ALWAYS, NEVER

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

_Cost = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CascadeParams(Record):
    """Parameters of `cascade`."""

    stages: Annotated[
        tuple[VersionNumber, ...],
        Field(max_length=_MOST, description="Versions, cheapest first; absent: every one that beats all cheaper ones."),
    ] = ()
    quality: Annotated[
        float | None, Field(gt=0, description="Least utility, as a part of the best stage's alone; then the cheapest.")
    ] = None
    budget: Annotated[
        float | None, Field(gt=0, description="Most cost, as a part of the dearest version's alone; then the best.")
    ] = None
    sure: Annotated[
        float, Field(ge=0.5, lt=1, description="How sure it must be that these two are kept; 0.5: by the mean.")
    ] = 0.95
    blend: Annotated[
        bool, Field(description="Answers of the stages that a row has passed weigh in what it is answered.")
    ] = False
    cost: Annotated[
        dict[VersionNumber, _Cost], Field(description="Cost of a row by version; absent: the measured model time.")
    ] = {}

    @field_validator("stages")
    @classmethod
    def _each_once(cls, stages: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(stages)) != len(stages) or len(stages) == 1:
            raise ValueError(f"found {list(stages)}, expected two to {_MOST} versions, each once")
        return stages


class Cascade(SelectionPolicy):
    """A row is answered by the first version that is sure enough of it; the last one answers what is left.

    Sure: the calibrated probability that its likeliest class is right (`confidence`). Stages and thresholds are those
    of the evaluation predictions with the best utility, the least cost that keeps `quality`, or the best utility for
    `budget`. With `blend` a row that has gone on is answered by a mixture of all its versions' answers (`stages`): a
    cascade of ensembles (Wang et al. 2022, "Wisdom of Committees").
    """

    Params: ClassVar[type[BaseModel]] = CascadeParams
    consults = True

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        stages = document.document["stages"]
        self._names = [stage["version"] for stage in stages]
        self._stages = [self.arms.index(name) for name in self._names]
        self._thresholds = [stage.get("threshold", NEVER) for stage in stages]
        self._weights = [stage.get("weight", 1.0) for stage in stages]
        #: Thresholds as the likeliest class's own probability: a row is compared, and nothing else computed.
        self._bars = [
            Calibration(*stage["calibration"]).bar(threshold)
            for stage, threshold in zip(stages[:-1], self._thresholds, strict=False)
        ]
        self._reasons = [self._reason(stage) for stage in range(len(stages))]
        self._told = [*self._reasons, *(f"{reason}; another stage failed" for reason in self._reasons)]
        first = self._stages[0]
        self._vector = tuple(np.eye(len(self.arms))[first].tolist())
        entry = self._reasons[0] if len(stages) == 1 else f"stage 1 of {len(stages)}: {self._bar(0)}"
        self._first = RowChoice(first, self._vector, entry, None)

    # --- planning --------------------------------------------------------------------------

    @classmethod
    def compile(
        cls,
        params: BaseModel,
        paired: PairedPredictions,
        proposal: Proposal | None,
        shares: NDArray[np.float64] | None,
        arms: Sequence[str],
        previous: PolicyDocument | None,
    ) -> CompiledPolicy:
        assert isinstance(params, CascadeParams)
        if paired.task != "classification" or any(output.ndim != 2 for output in paired.outputs):
            raise PolicyUnfit("cascade", f"a {paired.task} without probabilities", "versions that give probabilities")
        for version in params.stages:
            if version not in paired.versions:
                raise ArmMissing(version, "policy.params.stages", arms)
        # Stages that turned out not to be worth running are no arms any more.
        named = [version for version in params.stages if version in arms]
        able = [version for version in paired.versions if version in arms]
        costs = _costs(params, paired, named or able)
        # All versions tell what is to be kept, also where a plan is made again without those that it doesn't need.
        every = _costs(params, paired, params.stages or paired.versions)
        most = None if params.budget is None else params.budget * max(every.values())
        stages = named or worthwhile(paired, costs, able)
        if params.blend and not named and len(able) <= _MOST:
            # What is worse alone may be what the others lack.
            stages = sorted(able, key=costs.__getitem__)
        fitted = fit(
            paired,
            costs,
            stages,
            among=list(every),
            quality=params.quality,
            most=most,
            sure=params.sure,
            blend=params.blend,
        )
        if isinstance(fitted, Short):
            raise PolicyUnfit(
                "cascade",
                f"no thresholds shown to have quality {params.quality} within budget {params.budget}",
                f"less: the best within this budget has {fitted}",
            )
        return CompiledPolicy(document={"stages": fitted}, runs=tuple(stage["version"] for stage in fitted))

    def check(self, plan: DeploymentPlan) -> None:
        if plan.output != "proba":
            raise PolicyUnfit("cascade", f"output: {plan.output}", "output: proba, which tells how sure a version is")
        if plan.per == "request":
            raise PolicyUnfit("cascade", "per: request", "per: row; the rows of one request are answered by stage")

    # --- serving ---------------------------------------------------------------------------

    def choose(self, batch: Batch) -> Choice:
        arms = np.full(batch.rows, self._first.arm, dtype=np.intp)
        vectors = np.asarray([self._vector])
        return Choice(arms, np.zeros(batch.rows, dtype=np.intp), vectors, [self._first.reason], [None])

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        return self._first

    def consult(self, rows: int, run: Run) -> Consulted | None:
        if rows == 1:
            return self._consult_one(run)
        count = len(self._stages)
        values: NDArray[Any] | None = None
        arms = np.full(rows, self._stages[0], dtype=np.intp)
        served, failed = arms.copy(), np.full(rows, -1, dtype=np.intp)
        cells = np.zeros(rows, dtype=np.intp)
        here: NDArray[np.intp] | None = None
        for stage, arm in enumerate(self._stages):
            index = np.arange(rows) if here is None else here
            output = run(arm, here)
            good = np.zeros(len(index), dtype=bool) if output is None else np.isfinite(output).all(axis=1)
            if output is not None:
                if values is None:
                    values = np.full((rows, output.shape[1]), np.nan, dtype=output.dtype)
                elif self._weights[stage] < 1:
                    output = mixed(values[index], output, self._weights[stage])
                values[index[good]] = output[good]
                served[index[good]] = arm
                cells[index[good]] = stage
            lost = index[~good]
            arms[index] = np.where(failed[index] < 0, arm, arms[index])
            failed[lost] = np.where(failed[lost] < 0, arm, failed[lost])
            if stage == count - 1:
                break
            go = ~good
            if output is not None and good.any():
                go |= ~(output.max(axis=1) >= self._bars[stage])
            here = index[go]
            if not len(here):
                break
        if values is None:
            return None
        cells += count * (failed >= 0)
        return Consulted(values, arms, served, cells, self._told, [None] * len(self._told), failed)

    def _consult_one(self, run: Run) -> Consulted | None:
        """The same of a single row, for a fourth of the time."""
        value: NDArray[Any] | None = None
        answered, arm, cell, served, failed = False, self._stages[0], 0, self._stages[0], -1
        for stage, asked in enumerate(self._stages):
            output = run(asked, None)
            arm = asked if failed < 0 else arm
            if output is not None and math.isfinite(output.sum()):
                weight = self._weights[stage]
                value = output if not answered or weight == 1 else weight * output + (1 - weight) * value
                answered, served, cell = True, asked, stage
                if stage < len(self._bars) and value.max() >= self._bars[stage]:
                    break
            else:
                value = output if value is None else value
                failed = asked if failed < 0 else failed
        if value is None:
            return None
        cell += len(self._stages) * (failed >= 0)
        arms, chosen, cells, first = (np.array([number]) for number in (arm, served, cell, failed))
        return Consulted(value, arms, chosen, cells, self._told, [None] * len(self._told), first)

    def explain(self, context: Mapping[str, Any]) -> list[Candidate]:
        shown = []
        for index, arm in enumerate(self.arms):
            if index not in self._stages:
                reason, share = "no stage", None
            else:
                stage = self._stages.index(index)
                share = self.document.document["stages"][stage]["share"]
                reason = f"stage {stage + 1}: {self._bar(stage)} ({100 * share:.3g} % of the evaluated rows)"
            shown.append(Candidate(version=arm, score=share, propensity=self._vector[index], reason=reason))
        return shown

    def _bar(self, stage: int) -> str:
        if stage == len(self._stages) - 1:
            return "answers what is left"
        if self._thresholds[stage] >= ALWAYS:
            return "weighs in the next one's answers"
        return f"answers where at least {100 * self._thresholds[stage]:.3g} % sure"

    def _reason(self, stage: int) -> str:
        count = len(self._stages)
        if count == 1:
            return "the only stage worth running"
        text = f"stage {stage + 1} of {count}"
        if stage == 0:
            return f"{text}: at least {100 * self._thresholds[0]:.3g} % sure"
        if self._thresholds[stage - 1] >= ALWAYS:
            text += f": every row of version {self._names[stage - 1]}"
        else:
            text += f": version {self._names[stage - 1]} less than {100 * self._thresholds[stage - 1]:.3g} % sure"
        return text if self._weights[stage] == 1 else f"{text}, whose answer weighs {1 - self._weights[stage]:.2g}"


def _costs(params: CascadeParams, paired: PairedPredictions, names: Sequence[str]) -> dict[str, float]:
    measured = dict(zip(paired.versions, [] if paired.costs is None else paired.costs.tolist(), strict=False))
    costs = {name: params.cost.get(name, measured.get(name, float("nan"))) for name in names}
    unknown = [name for name, cost in costs.items() if not cost > 0]
    if unknown:
        found = f"no cost of version {', '.join(unknown)}"
        raise PolicyUnfit("cascade", found, "policy.params.cost, or a report with its throughput")
    if params.cost and set(params.cost) < set(names):
        missing = ", ".join(name for name in names if name not in params.cost)
        raise PolicyUnfit("cascade", f"policy.params.cost without version {missing}", "the cost of all or of none")
    return costs
