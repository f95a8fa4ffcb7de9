"""A plan: the frozen answer to a plan file, and the record of putting one in force."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from lepton_plugins.canonical import canonical_json, digest_bytes
from lepton_plugins.records.around import Around
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.records.signature import Signature
from lepton_plugins.records.spec import PlanSpec


class ArmResources(Record):
    """What one arm is given. `cpu` in cores, sizes in bytes, for all its replicas together."""

    replicas: int = 1
    pools: dict[str, int] = {}
    """Replicas by node pool; empty where the plan file names no pools."""
    cpu: float | None = None
    memory: int | None = None
    gpu: float | None = None
    gpu_memory: int | None = None
    throughput: float | None = None
    """Rows a second of one replica, as measured for the cores that it has; None where it has no process of its own."""


class Arm(Record):
    """A version inside the router."""

    version: VersionNumber
    label: str | None = None
    uri: str
    source: str | None = None
    """Its files' address where they are in shared storage, such as s3://; never one of the planning machine."""
    artifact_digest: str
    framework: str | None = None
    backend: str
    format: str
    trust: Literal["pickle"] | None = None
    """Leave to load a format that carries code, for these very bytes."""
    signature: Signature | None = None
    share: float
    """Expected part of the traffic, all segments together."""
    resources: ArmResources = ArmResources()


class FileDigest(Record):
    """A file of the policy: its path below `policy/` and its digest."""

    path: str
    digest: str


class PolicyDocument(Record):
    """The selection policy as it is served: compiled by its plugin, complete and plain."""

    kind: str
    params: dict[str, Any] = {}
    features: tuple[str, ...] = ()
    """Context columns the policy reads."""
    document: dict[str, Any] = {}
    files: tuple[FileDigest, ...] = ()


class Rejection(Record):
    """A version that is not an arm, and why."""

    version: VersionNumber
    code: str
    reason: str


class Gain(Record):
    """Expected gain of the plan over its default arm, in the objective's metric (positive is better).

    Cross-fitted: cells are chosen on other rows than those the gain is measured on.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    level: float = 0.95
    method: str
    n: int
    relative_time: float | None = None
    """Model time a row as a part of the default arm's, cross-fitted too; None where it wasn't measured."""


class Allocation(Record):
    """What the solver found."""

    solver: str
    status: Literal["optimal", "feasible", "fixed"]
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    form: str = "mixture"
    used: dict[str, float] = {}
    """Use of each budgeted resource: cores, bytes, devices."""
    nodes: dict[str, tuple[dict[str, int], ...]] = {}
    """By pool, what each node that is used holds: replicas by version."""
    cost: float | None = None
    """The price of the nodes that are used, in the plan file's unit."""
    p99_ms: float | None = None
    """The p99 of all answers together, from the versions' own p50, p95 and p99; None where one isn't known."""
    moves: int | None = None
    """Replicas to start that the plan in force doesn't have; None without pools or without a plan in force."""


class Evidence(Record):
    """The report that an arm was judged by."""

    version: VersionNumber
    run_id: str | None
    dataset: str
    rows: int


class DeploymentPlan(Record):
    """A frozen plan. Its identity is its digest; the revision's number is for display."""

    schema_version: Literal[1] = 1
    model: str
    parent: str | None = None
    """Digest of the plan in force when this one was made."""
    salt: str
    """Hex. One per model, kept across revisions: assignments survive a new plan. Also keys the hashes."""
    output: OutputKind
    classes: tuple[str, ...] = ()
    signature: Signature
    """The router's: the union of the arms' inputs plus the context columns."""
    arms: tuple[Arm, ...]
    default: VersionNumber
    policy: PolicyDocument
    around: Around = Around()
    per: Literal["row", "request"] = "row"
    topology: Literal["embedded", "distributed"] = "embedded"
    baseline: float | None = None
    """The metric's value at which utility P is 0.5 (a constant prediction's loss); None for metrics in [0, 1]."""
    allocation: Allocation
    gain: Gain | None = None
    rejected: tuple[Rejection, ...] = ()
    warnings: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    spec: PlanSpec

    @classmethod
    def read(cls, content: bytes) -> DeploymentPlan:
        """A stored plan. It keeps the bytes it was read from: they are its identity.

        A later Lepton may know fields that these bytes don't have; writing the plan anew would give them
        their defaults, and the plan another digest than the registry and the decision log know.
        """
        plan = cls.model_validate_json(content)
        plan.__dict__["content"] = content
        return plan

    @cached_property
    def content(self) -> bytes:
        """The plan as it is stored: canonical JSON."""
        return canonical_json(self)

    @cached_property
    def digest(self) -> str:
        return digest_bytes(self.content)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> DeploymentPlan:
        """A changed plan is another plan: the bytes and the digest of the old one don't go along."""
        copied = super().model_copy(update=update, deep=deep)
        for derived in ("content", "digest"):
            copied.__dict__.pop(derived, None)
        return copied

    def arm(self, version: str) -> Arm | None:
        return next((arm for arm in self.arms if arm.version == version), None)


class PlanRevision(Record):
    """A stored plan: where it is and what it is called."""

    model: str
    digest: str
    run_id: str
    number: int
    """For display: 1, 2, 3 … in the order in which they were stored."""
    parent: str | None = None
    created_at: str | None = None
    created_by: str | None = None
    summary: str = ""


class Activation(Record):
    """One entry of the audit trail: a plan was put in force (promote, rollback, pin)."""

    schema_version: Literal[1] = 1
    model: str
    action: Literal["promote", "rollback", "pin", "unpin"]
    from_digest: str | None
    to_digest: str
    to_number: int
    who: str
    why: str = ""
    evidence: dict[str, Any] = {}
    at: str
    """UTC, ISO 8601."""
    run_id: str | None = None
    forced: bool = False
