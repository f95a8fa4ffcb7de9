"""What a selection policy is: at planning it is compiled from evidence, at serving it chooses.

A newcomer's policy has `Params`, `needs` and `propensities` and nothing else. The rest has defaults:
the choice is the inverse of the cumulated propensities at the row's draw, so a logged draw replays it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from lepton_plugins.records.plan import DeploymentPlan, PolicyDocument
from lepton_plugins.records.record import Record

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

#: Draws are uint64; as a fraction of 2**64 they are uniform in [0, 1).
_TWO64 = 2.0**64
#: A feature with this prefix is a header of the request, its name in lower case: `header:x-tenant`.
HEADER = "header:"


@dataclass(slots=True)
class Batch:
    """Rows to decide on.

    `context` holds the policy's features, one array of shape (rows,) a name, missing values as None
    (object arrays) or NaN; `draws` is uint64 of shape (rows,), uniform, a keyed hash of the unit.
    """

    rows: int
    context: Mapping[str, NDArray[Any]]
    draws: NDArray[np.uint64]


@dataclass(slots=True)
class Choice:
    """The answer for a batch, stored by cell: rows that were treated alike share one vector and reason.

    `arms` (rows,) is each row's chosen arm as an index into the plan's arms; `cells` (rows,) its cell.
    `vectors` (cells, arms) float64 are propensities that sum to one; `reasons` and `segments` have one
    entry a cell.
    """

    arms: NDArray[np.intp]
    cells: NDArray[np.intp]
    vectors: NDArray[np.float64]
    reasons: Sequence[str]
    segments: Sequence[str | None]

    @property
    def propensities(self) -> NDArray[np.float64]:
        """Shape (rows, arms)."""
        return self.vectors[self.cells]


class RowChoice(NamedTuple):
    """The answer for one row."""

    arm: int
    vector: Sequence[float]
    reason: str
    segment: str | None


#: The answer of an arm for some rows (None: all of them); None where it failed. Rows without a finite answer
#: are those that it couldn't answer.
Run = Callable[[int, NDArray[np.intp] | None], NDArray[Any] | None]


@dataclass(slots=True)
class Consulted:
    """An answer that was made from several arms' answers.

    `values` are the answers; `arms`, `served` (rows,) the arm that should answer each row and the one that did;
    `cells` (rows,) point into `reasons` and `segments`. `failed` (rows,) is the arm whose failure changed a row's
    answer, -1 where none did.
    """

    values: NDArray[Any]
    arms: NDArray[np.intp]
    served: NDArray[np.intp]
    cells: NDArray[np.intp]
    reasons: Sequence[str]
    segments: Sequence[str | None]
    failed: NDArray[np.intp]


def settled(made: Consulted, arms: int) -> Choice:
    """The choice that an answer of several arms amounts to: given the answers it was certain."""
    codes, cells = np.unique(made.cells * arms + made.arms, return_inverse=True)
    own, arm = np.divmod(codes, arms)
    vectors = np.zeros((len(codes), arms))
    vectors[np.arange(len(codes)), arm] = 1.0
    return Choice(
        made.arms,
        cells.astype(np.intp),
        vectors,
        [made.reasons[cell] for cell in own.tolist()],
        [made.segments[cell] for cell in own.tolist()],
    )


class Candidate(Record):
    """One arm in an explanation: its score in the policy's own terms and why it won or lost."""

    version: str
    label: str | None = None
    score: float | None
    propensity: float
    reason: str


@dataclass(slots=True)
class Proposal:
    """What a policy lets the solver choose: shares of arms in each segment of the traffic.

    Shapes: `traffic` (segments,) sums to one; `utility` and `allowed` (segments, versions), versions as in
    the evidence. `utility` is P, shrunken as the policy sees fit. `under`, of the same shape, is the mean of
    `paired.under` in each cell, where the metric is a ratio of sums; without it the solver takes P as it is.
    """

    segments: Sequence[str]
    traffic: NDArray[np.float64]
    utility: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    warnings: Sequence[str] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Whatever `compile` needs again."""
    under: NDArray[np.float64] | None = None


@dataclass(slots=True)
class CompiledPolicy:
    """A policy ready to be stored: a plain JSON document and files of bytes (tables, ONNX)."""

    features: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    """Versions that must run even if no row of the evidence gives them a share."""


class NoParams(Record):
    """A policy without parameters."""


class SelectionPolicy:
    """Base of selection policies. Thread-safe and picklable: after `__init__` nothing changes, but what is learned.

    `arms` are the plan's versions in order; `default` is the default arm's index.
    """

    #: The plan file's `policy.params`, a strict pydantic model.
    Params: ClassVar[type[BaseModel]] = NoParams

    #: Whether the choice depends on the arms' answers: then `consult` is asked after `choose`.
    consults: ClassVar[bool] = False

    #: Whether rewards change the choice: then it is a `learning.LearningPolicy`.
    learns: ClassVar[bool] = False

    #: The revision of what was learned, as the router has told it.
    state: str | None = None

    #: Rows so far in which something that the policy looks for was missing, by its name.
    missing: Mapping[str, int] = {}

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        self.document = document
        self.params = self.Params.model_validate(document.params)
        self.arms = tuple(arms)
        self.default = default
        self.features = document.features

    # --- planning --------------------------------------------------------------------------

    @classmethod
    def propose(cls, params: BaseModel, paired: PairedPredictions) -> Proposal | None:
        """What the solver may choose from, by the evidence. None: the policy decides by itself."""
        return None

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
        """The policy to be stored, over the arms that are left.

        `arms` are the plan's versions in order. `shares` (segments, versions) is the solver's answer to
        `proposal`, versions as in the evidence; those that aren't arms have none. `previous` is the document
        in force where it is of the same kind, so that assignments move no more than they must.
        """
        return CompiledPolicy(features=cls.needs(params))

    @classmethod
    def needs(cls, params: BaseModel) -> tuple[str, ...]:
        """Context columns that the policy reads with these parameters."""
        return ()

    def check(self, plan: DeploymentPlan) -> None:
        """Refuse, in a LeptonError, a finished plan that this policy can't stand behind."""

    # --- serving ---------------------------------------------------------------------------

    def propensities(self, context: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float64]:
        """Probability of each arm for each row, shape (rows, arms), each row sums to one."""
        raise NotImplementedError(f"{type(self).__name__} defines neither propensities() nor choose()")

    def reason(self, context: Mapping[str, Any], arm: int) -> str:
        """Why a row with this context got this arm, in a few words."""
        return self.document.kind

    def choose(self, batch: Batch) -> Choice:
        """Choose an arm for each row of a batch."""
        vectors = self.propensities(batch.context, batch.rows)
        arms = invert(vectors, batch.draws)
        names = list(batch.context)
        columns = [batch.context[name] for name in names]
        reasons = [
            self.reason(dict(zip(names, values, strict=True)), int(arm))
            for arm, *values in zip(arms, *columns, strict=True)
        ]
        return Choice(arms, np.arange(batch.rows), vectors, reasons, [None] * batch.rows)

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        """Choose for one row; the same answer as `choose` on a batch of that row."""
        columns = {name: column_of(context.get(name)) for name in self.features}
        choice = self.choose(Batch(1, columns, np.array([draw], dtype=np.uint64)))
        cell = int(choice.cells[0])
        return RowChoice(
            int(choice.arms[0]), choice.vectors[cell].tolist(), choice.reasons[cell], choice.segments[cell]
        )

    def consult(self, rows: int, run: Run) -> Consulted | None:
        """The answer made from several arms' answers, for policies that consult them.

        `run(arm, rows)` asks an arm. The same is done with the evaluation predictions when a plan is made.
        None where no arm that was asked could answer.
        """
        raise NotImplementedError(f"{type(self).__name__} sets `consults` but doesn't define consult()")

    def explain(self, context: Mapping[str, Any]) -> list[Candidate]:
        """Every arm with its score and why it would win or lose for this context."""
        columns = {name: column_of(context.get(name)) for name in self.features}
        choice = self.choose(Batch(1, columns, np.zeros(1, dtype=np.uint64)))
        vector = choice.propensities[0]
        return [
            Candidate(version=arm, score=None, propensity=float(p), reason=self.reason(context, index))
            for index, (arm, p) in enumerate(zip(self.arms, vector, strict=True))
        ]


def column_of(value: Any) -> NDArray[Any]:
    """An array of shape (1,) that holds one context value, of the dtype a column of such values has."""
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return np.asarray([value])
    column = np.empty(1, dtype=object)
    column[0] = value
    return column


def invert(vectors: NDArray[np.float64], draws: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The arm at each row's draw: the first whose cumulated propensity exceeds draw / 2**64.

    An arm of propensity zero is never chosen, rounding at the end included.
    """
    cumulated = np.cumsum(vectors, axis=1)
    fractions = draws / _TWO64
    # Scale by the row's own total: cumulated rounding must not leave a gap below 1.
    arms = (cumulated <= (fractions * cumulated[:, -1])[:, None]).sum(axis=1)
    last = vectors.shape[1] - 1 - np.argmax(vectors[:, ::-1] > 0, axis=1)
    chosen: NDArray[np.intp] = np.minimum(arms, last).astype(np.intp)
    return chosen
