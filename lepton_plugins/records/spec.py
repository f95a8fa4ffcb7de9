"""The plan file: what a user asks for. Strict: an unknown key is an error that names the nearest one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from lepton_plugins.records.around import Around
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.quantity import Seconds
from lepton_plugins.records.record import Numbering, SpecRecord, VersionNumber, Versions
from lepton_plugins.records.resources import ResourceSpec


class Objective(SpecRecord):
    """What is maximised: Σ_s traffic_s Σᵢ share_is·wᵢ·P_is − price (mixture), or Σ wᵢ·Pᵢ (select)."""

    metric: str | None = None
    """A row-decomposable metric, or f1 (of two classes): of all answers' counts together. Default by task: log_loss,
    mse, ndcg@10."""
    weights: dict[VersionNumber, Annotated[float, Field(ge=0)]] = {}
    """The wᵢ: for all versions or for none."""
    form: Literal["mixture", "select"] = "mixture"
    """mixture: shares of the traffic are chosen. select: the set of versions that run, by Σ wᵢ·Pᵢ."""
    traffic: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Share of each segment in the live traffic; default: the evaluation data's. Segments that aren't named
    share what is left as the evaluation data has them."""
    price: Annotated[float, Field(ge=0)] = 0.0
    """What one unit of the pools' price costs in utility: 0.001 gives a node of price 2 up for 0.002."""
    move: Annotated[float, Field(ge=0)] = 0.0001
    """What starting a replica that the plan in force doesn't have costs in utility. Counts with `resources.pools`."""


class PolicySpec(SpecRecord):
    """The selection policy: a plugin's name and its own parameters."""

    kind: str
    """`lepton plugins` lists them: weighted, segment_best …"""
    params: dict[str, Any] = {}
    """The policy's own parameters."""


def _kind_alone(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


Policy = Annotated[PolicySpec, BeforeValidator(_kind_alone, json_schema_input_type=PolicySpec | str)]


class SolverSpec(SpecRecord):
    """Who allocates, and for how long it may search."""

    name: str = "auto"
    """`lepton plugins` lists them; auto: milp, and genetic too where the time wasn't enough for a proof."""
    time_limit: Seconds = 10.0
    """How long one search may take; the best found so far is then the answer."""
    gap: Annotated[float, Field(ge=0)] = 0.001
    """Stop where the answer is proved to be within this part of the optimum's gain."""
    seed: Annotated[int, Field(ge=0)] = 0
    """For genetic and swarm, which draw: the same seed gives the same answer."""


def _name_alone(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


Solver = Annotated[SolverSpec, BeforeValidator(_name_alone, json_schema_input_type=SolverSpec | str)]


class DecisionSpec(SpecRecord):
    """What stands in the decision log beside arms and propensities. Keys always stand there as keyed hashes only."""

    columns: tuple[str, ...] = ()
    """Columns to log beside those that the policy reads: another policy may be tried on them later."""
    redact: tuple[str, ...] = ()
    """Columns whose values are logged as keyed hashes: equal values stay equal, and can't be read."""
    drop: tuple[str, ...] = ()
    """Columns that aren't logged, although the policy reads them. Such decisions can't be replayed."""

    @model_validator(mode="after")
    def _once(self) -> DecisionSpec:
        for one, other in (("columns", "drop"), ("redact", "drop")):
            both = sorted(set(getattr(self, one)) & set(getattr(self, other)))
            if both:
                raise ValueError(f"found {both} in {one} and in {other}, expected each column in one of them")
        return self


class VersionFilter(SpecRecord):
    """Versions by tag or metadata: `{tag: {stage: prod}}`."""

    tag: dict[str, str]
    """Keys and values that a version's tags must all have."""


def _which(value: object) -> object:
    """One sentence for a value that is none of the three kinds."""
    if value == "all" or isinstance(value, list | tuple | dict | VersionFilter):
        return value
    raise ValueError(
        f"found {value!r}, expected all, a list of versions such as [1, 3], "
        f"or a filter such as {{tag: {{stage: prod}}}}"
    )


def _branch(value: object) -> str:
    if isinstance(value, str):
        return "all"
    return "filter" if isinstance(value, dict | VersionFilter) else "list"


#: Told apart first, so that a wrong item is one finding and not one for each kind.
Choice = Annotated[
    Annotated[Literal["all"], Tag("all")] | Annotated[Versions, Tag("list")] | Annotated[VersionFilter, Tag("filter")],
    Discriminator(_branch),
    BeforeValidator(_which),
]


class PlanSpec(SpecRecord):
    """The user's plan file."""

    model: str
    """The registered model."""
    versions: Choice = "all"
    """Which versions may be arms: all, a list (of numbers or labels, as everywhere here), or a filter by tag."""
    default: VersionNumber | None = None
    """The default arm (champion); else the one in force, else the alias `champion`, else the best."""
    output: OutputKind | None = None
    """What the versions' outputs are brought to; default by task: proba, value, score."""
    objective: Objective = Objective()
    policy: Policy = PolicySpec(kind="weighted")
    """Which version answers: a kind with its parameters, or the kind alone."""
    around: Around = Around()
    decisions: DecisionSpec = DecisionSpec()
    resources: ResourceSpec = ResourceSpec()
    solver: Solver = SolverSpec()
    """Who allocates: a name with its settings, or the name alone."""
    topology: Literal["embedded", "distributed"] = "embedded"
    """embedded: all versions in one process. distributed: one service a version, one router, in what the targets kserve
    and bentoml render; `lepton serve`, `lepton predict` and the target mlflow answer in one process all the same."""
    per: Literal["row", "request"] = "row"
    """What is decided on: each row of a request, or the request as a whole."""

    @model_validator(mode="after")
    def _default_answers(self) -> PlanSpec:
        if self.default is not None and self.default in self.around.shadow:
            raise ValueError(
                f"found version {self.default} as default and in around.shadow, whose answers are discarded"
            )
        return self

    @model_validator(mode="after")
    def _degrade_by_something(self) -> PlanSpec:
        degrade = self.around.degrade
        if degrade is not None and self.resources.slo.p99 is None and not degrade.concurrency:
            raise ValueError(
                "found around.degrade without resources.slo.p99 and without around.degrade.concurrency, expected one "
                "of them, such as resources: {slo: {p99: 50ms}} or degrade: {concurrency: {2: 8}}: nothing else says "
                "when a version has too much to do"
            )
        if degrade is not None and degrade.to is not None and degrade.to in self.around.shadow:
            raise ValueError(
                f"found version {degrade.to} as around.degrade.to and in around.shadow, whose answers are discarded"
            )
        return self

    @model_validator(mode="after")
    def _weights_for_all_or_none(self, info: ValidationInfo) -> PlanSpec:
        weights = self.objective.weights
        named = [*weights, *self.versions] if isinstance(self.versions, tuple) else []
        # One version may be named by number here and by label there, until planning resolves both.
        comparable = isinstance(info.context, Numbering) or all(name.isdigit() for name in named)
        if weights and comparable and isinstance(self.versions, tuple):
            missing = sorted(set(self.versions) - set(weights))
            if missing:
                raise ValueError(
                    f"objective.weights: found weights for {sorted(weights)} but none for {missing}; "
                    f"expected a weight for every version or for none"
                )
        return self
