"""The plan file: what a user asks for. Strict: an unknown key is an error that names the nearest one."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from lepton_plugins.records.key_docs import describe_keys
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.record import Numbering, Record, VersionNumber

_SUFFIX = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def parse_bytes(value: object) -> object:
    """Kubernetes' quantity for memory ("8Gi", "500M") or a plain number of bytes, as an int."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(Ki|Mi|Gi|Ti|k|M|G|T|)\s*", value)
        if not match:
            raise ValueError(f"found {value!r}, expected a size such as 512Mi, 8Gi or a number of bytes")
        return int(float(match[1]) * _SUFFIX[match[2]])
    return value


def parse_cpu(value: object) -> object:
    """Kubernetes' quantity for CPU ("500m", 4) as a number of cores."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(m?)\s*", value)
        if not match:
            raise ValueError(f"found {value!r}, expected cores such as 4, 0.5 or 500m")
        return float(match[1]) / (1000 if match[2] else 1)
    return value


def parse_rate(value: object) -> object:
    """Requests a second ("200/s", "12000/min", 200)."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:/\s*(s|min|h))?\s*", value)
        if not match:
            raise ValueError(f"found {value!r}, expected a rate such as 200/s or 12000/min")
        return float(match[1]) / {"s": 1, "min": 60, "h": 3600, None: 1}[match[2]]
    return value


def parse_seconds(value: object) -> object:
    """A duration ("50ms", "10s", "7d", "1.5") in seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|min|h|d|)\s*", value)
        if not match:
            raise ValueError(f"found {value!r}, expected a duration such as 50ms or 10s")
        return float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1, "": 1, "min": 60, "h": 3600, "d": 86_400}[match[2]]
    return value


def _written(kind: str, pattern: str, *examples: object) -> WithJsonSchema:
    """The schema of a quantity as people write it, not as it is kept: an editor checks the former."""
    number = {"type": kind, "minimum": 0}
    return WithJsonSchema(
        {"anyOf": [number, {"type": "string", "pattern": pattern}], "examples": list(examples)}, mode="validation"
    )


_NUMBER = r"^\s*[0-9]+(\.[0-9]+)?\s*"
Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    Field(ge=0),
    _written("integer", _NUMBER + r"(Ki|Mi|Gi|Ti|k|M|G|T|)\s*$", "8Gi", "512Mi"),
]
Cores = Annotated[
    float, BeforeValidator(parse_cpu), Field(ge=0), _written("number", _NUMBER + r"m?\s*$", 4, 0.5, "500m")
]
Rate = Annotated[
    float, BeforeValidator(parse_rate), Field(ge=0), _written("number", _NUMBER + r"(/\s*(s|min|h))?\s*$", "200/s")
]
Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds),
    Field(gt=0),
    _written("number", _NUMBER + r"(us|ms|s|min|h|d|)\s*$", "50ms", "10s"),
]


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"found {list(values)}, expected each version once")
    return values


Versions = Annotated[tuple[VersionNumber, ...], AfterValidator(_unique)]


def _two(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(values) != 2:
        raise ValueError(f"found {list(values)}, expected two versions such as [1, 3]")
    return values


Pair = Annotated[Versions, AfterValidator(_two)]


class SpecRecord(Record):
    """A part of the plan file. Its keys' docstrings are the descriptions in `lepton schema plan`."""

    model_config = ConfigDict(json_schema_extra=describe_keys)


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


class Sticky(SpecRecord):
    """The same unit (a customer, a session) gets the same arm as long as shares allow."""

    key: str
    """The column (or, for a whole request, the header x-lepton-key) that names the unit."""


class Breaker(SpecRecord):
    """When an arm is left out for a while; the default arm never is."""

    failures: Annotated[int, Field(ge=1)] = 10
    """So many failed calls in a row."""
    wait: Seconds = 10.0
    """How long until one call tries it again; twice as long after each trial that fails."""


class Degrade(SpecRecord):
    """What happens when an arm has too much to do: a cheaper one answers, and the decision says so.

    Needs `resources.slo.p99`, or a limit of calls for an arm.
    """

    to: VersionNumber | None = None
    """The arm that answers then; default: the one whose rows cost least by the reports."""
    concurrency: dict[VersionNumber, Annotated[int, Field(ge=1)]] = {}
    """Calls that an arm may have at once; the next goes to the cheaper arm."""
    enter: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Rows move when their answers are expected later than this part of the p99."""
    leave: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Once rows move, others stay only if they are expected within this part of the p99."""
    hold: Seconds = 1.0
    """How long no row must have moved until `enter` counts again."""

    @model_validator(mode="after")
    def _apart(self) -> Degrade:
        if self.leave >= self.enter:
            raise ValueError(
                f"found leave {self.leave:g} and enter {self.enter:g}, expected a leave below enter: what lies "
                f"between them keeps traffic from fluttering"
            )
        return self


class Around(SpecRecord):
    """The wrappers around the policy: guard → holdout → sticky → explore → policy → degrade → fallback; shadow
    beside."""

    guard: Literal["open", "token", "closed"] = "open"
    """Who may force a version: anyone, holders of the token, nobody."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of units that always get the default arm, for an honest comparison."""
    explore: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of units whose arm is drawn from all versions alike, which all run then: `lepton replay` can tell from
    them what other plans would have done."""
    sticky: Sticky | None = None
    """What keeps a unit with its arm; absent: each request is drawn anew."""
    shadow: Versions = ()
    """Versions that answer beside the chosen one, their answers discarded; they get no share."""
    degrade: Degrade | None = None
    """When an arm has too much to do, a cheaper one answers: `{}` takes what is usual. Absent: never."""
    fallback: VersionNumber | None = None
    """The arm that answers when the chosen one can't; default: the default arm."""
    timeout: Seconds | None = None
    """How long an arm may take before the fallback answers."""
    breaker: Breaker | None = Breaker()
    """When an arm that fails is left out for a while; null: never."""


class Budget(SpecRecord):
    """What all arms together may use. None: no limit."""

    cpu: Cores | None = None
    """Cores. Needs `load`, from which the use of CPU follows."""
    memory: Bytes | None = None
    """Sum of the versions' peak memory, each measured in a process of its own."""
    gpu: Annotated[float, Field(ge=0)] | None = None
    """Devices; a version that was seen to hold GPU memory takes one."""
    gpu_memory: Bytes | None = None
    """Sum of the GPU memory that the versions were seen to hold."""


class Toleration(SpecRecord):
    """A taint of a pool's nodes that its replicas bear, in Kubernetes' words."""

    key: str | None = None
    """The taint's key; absent: all keys, with operator Exists."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Equal compares the value, Exists doesn't."""
    value: str | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Absent: all effects."""


class Pool(SpecRecord):
    """Nodes that are alike. Amounts are those of one node that replicas may have."""

    nodes: Annotated[int, Field(ge=1)] = 1
    """How many there are, or may be started."""
    cpu: Cores
    """Cores of a node."""
    memory: Bytes
    """Memory of a node."""
    gpu: Annotated[int, Field(ge=0)] = 0
    """Devices of a node."""
    gpu_memory: Bytes | None = None
    """Memory of one device; absent: not looked at."""
    gpu_key: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] | None = None
    """Kubernetes' resource of one device, such as nvidia.com/mig-1g.10gb; absent: nvidia.com/gpu."""
    device_class: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")] | None = None
    """The class of which devices are claimed (DRA) in the place of a resource, such as gpu.nvidia.com."""
    price: Annotated[float, Field(ge=0)] = 0.0
    """What a node that is used costs, in any unit; objective.price says what a unit is worth."""
    speed: Annotated[float, Field(gt=0)] = 1.0
    """Rows a second here, as a multiple of what the evaluation's machine did."""
    budget: Budget = Budget()
    """What all replicas on this pool together may use, where that is less than its nodes have."""
    labels: dict[str, str] = {}
    """Labels by which Kubernetes finds the nodes."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that its replicas bear."""


class Slo(SpecRecord):
    """What a version must keep, or it is rejected."""

    p99: Seconds | None = None
    """Latency of one row that 99 % of the calls stay below, as the evaluation measured it; `around.degrade` keeps
    it under load."""
    mixture_p99: Seconds | None = None
    """Latency that 99 % of all answers together stay below: a slow version may answer a part of them. From the p50, p95
    and p99 of each version's calls, measured alone."""


class ResourceSpec(SpecRecord):
    """What the plan may use, and what it must bear."""

    budget: Budget = Budget()
    pools: dict[Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")], Pool] = {}
    """Node pools by name: how many replicas of each version run on which is then decided, too."""
    load: Rate | None = None
    """Rows a second that must be answered."""
    headroom: Annotated[float, Field(ge=0)] = 0.0
    """Throughput kept beyond the load, as a part of it: 0.2 is enough for 1.2 times the load."""
    replica_cpu: Annotated[Cores, Field(gt=0)] = 1.0
    """Cores of one replica, where there are pools: it bears as many times the rows that one core was measured to."""
    batch: Annotated[int, Field(ge=1)] = 1
    """Rows of a request: throughput and latency are those of the largest batch measured that is no larger."""
    min_replicas: Annotated[int, Field(ge=1)] = 1
    """The least replicas of a version that runs. Counts with `pools`."""
    survive: Literal["node"] | None = None
    """node: each version still bears its share when any one node is lost; at most one of its replicas a node."""
    slo: Slo = Slo()
    max_versions: Annotated[int, Field(ge=1)] | None = None
    """How many versions may run, default arm, fallback and shadows counted."""
    min_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The least part of the traffic that a version is run for; the default arm and the fallback may have less."""
    model_memory: Annotated[Bytes, Field(gt=0)] | None = None
    """Bytes of versions' files that stay loaded where the plan is served; others are loaded when asked for."""
    on_gpu: Versions = ()
    """Versions that run on a GPU although they were evaluated without one: each takes one device, and the GPU memory
    that its report estimates. Those that were seen to hold GPU memory do so anyway."""
    conflicts: tuple[Pair, ...] = ()
    """Pairs of versions that must not run together, such as [[1, 3]]."""

    @model_validator(mode="after")
    def _cpu_by_load(self) -> ResourceSpec:
        if self.budget.cpu is not None and self.load is None:
            raise ValueError("found a budget of cpu without load, expected load (such as 200/s): CPU follows from it")
        if self.pools and self.load is None:
            raise ValueError("found pools without load, expected load (such as 200/s): replicas follow from it")
        if self.survive is not None and not self.pools:
            raise ValueError("found survive without pools, expected resources.pools: it is said of their nodes")
        return self


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
    solver: SolverSpec = SolverSpec()
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
