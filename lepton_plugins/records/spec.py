"""The plan file: what a user asks for. Strict: an unknown key is an error that names the nearest one."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.record import Record, VersionNumber

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
    """A duration ("50ms", "10s", "1.5") in seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|min|h|)\s*", value)
        if not match:
            raise ValueError(f"found {value!r}, expected a duration such as 50ms or 10s")
        return float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1, "": 1, "min": 60, "h": 3600}[match[2]]
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=0)]
Cores = Annotated[float, BeforeValidator(parse_cpu), Field(ge=0)]
Rate = Annotated[float, BeforeValidator(parse_rate), Field(ge=0)]
Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0)]


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"found {list(values)}, expected each version once")
    return values


Versions = Annotated[tuple[VersionNumber, ...], AfterValidator(_unique)]


class Objective(Record):
    """What is maximised: Σ_s traffic_s Σᵢ share_is·wᵢ·P_is − price (mixture), or Σ wᵢ·Pᵢ (select)."""

    metric: str | None = None
    """A row-decomposable metric; default by task: log_loss, mse, ndcg@10."""
    weights: dict[VersionNumber, Annotated[float, Field(ge=0)]] = {}
    """The wᵢ: for all versions or for none."""
    form: Literal["mixture", "select"] = "mixture"
    traffic: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Share of each segment in the live traffic; default: the evaluation data's."""


class PolicySpec(Record):
    """The selection policy: a plugin's name and its own parameters."""

    kind: str
    params: dict[str, Any] = {}


class Sticky(Record):
    key: str
    """The column (or, for a whole request, the header x-lepton-key) that names the unit."""


class Around(Record):
    """The wrappers around the policy: guard → holdout → sticky → policy → degrade → fallback; shadow beside."""

    guard: Literal["open", "token", "closed"] = "open"
    """Who may force a version: anyone, holders of the token, nobody."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of units that always get the default arm, for an honest comparison."""
    sticky: Sticky | None = None
    shadow: Versions = ()
    fallback: VersionNumber | None = None
    """The arm that answers when the chosen one can't; default: the default arm."""
    timeout: Seconds | None = None
    """How long an arm may take before the fallback answers."""


class Budget(Record):
    """What all arms together may use. None: no limit."""

    cpu: Cores | None = None
    memory: Bytes | None = None
    gpu: Annotated[float, Field(ge=0)] | None = None
    gpu_memory: Bytes | None = None


class Slo(Record):
    p99: Seconds | None = None


class ResourceSpec(Record):
    budget: Budget = Budget()
    load: Rate | None = None
    """Rows a second that must be answered."""
    slo: Slo = Slo()


class SolverSpec(Record):
    name: str = "auto"
    time_limit: Seconds = 10.0
    gap: Annotated[float, Field(ge=0)] = 0.001


class VersionFilter(Record):
    """Versions by tag or metadata: `{tag: {stage: prod}}`."""

    tag: dict[str, str]


class PlanSpec(Record):
    """The user's plan file."""

    model: str
    versions: Literal["all"] | Versions | VersionFilter = "all"
    default: VersionNumber | None = None
    """The default arm (champion); else the one in force, else the alias `champion`, else the best."""
    output: OutputKind | None = None
    """What the versions' outputs are brought to; default by task: proba, value, score."""
    objective: Objective = Objective()
    policy: PolicySpec = PolicySpec(kind="weighted")
    around: Around = Around()
    resources: ResourceSpec = ResourceSpec()
    solver: SolverSpec = SolverSpec()
    topology: Literal["embedded", "distributed"] = "embedded"
    per: Literal["row", "request"] = "row"
    """What is decided on: each row of a request, or the request as a whole."""

    @field_validator("policy", mode="before")
    @classmethod
    def _kind_alone(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _weights_for_all_or_none(self) -> PlanSpec:
        weights = self.objective.weights
        if weights and isinstance(self.versions, tuple):
            missing = sorted(set(self.versions) - set(weights))
            if missing:
                raise ValueError(
                    f"objective.weights: found weights for {sorted(weights)} but none for {missing}; "
                    f"expected a weight for every version or for none"
                )
        return self
