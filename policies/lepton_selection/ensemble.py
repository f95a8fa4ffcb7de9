"""`ensemble`: the answer of several versions together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

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
from lepton_selection.stacking import stacked_weights

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Floats = NDArray[np.float64]


class EnsembleParams(Record):
    """Parameters of `ensemble`."""

    how: Annotated[
        Literal["mean", "weighted", "stacked", "vote"],
        Field(description="stacked: weights that fit the evaluation data best; vote: for the likeliest class."),
    ] = "mean"
    weights: Annotated[
        dict[VersionNumber, _Weight], Field(description="By version, for weighted and vote; scaled to sum to one.")
    ] = {}
    members: Annotated[tuple[VersionNumber, ...], Field(description="Absent: those with a weight, else all.")] = ()

    @model_validator(mode="after")
    def _weights_where_they_count(self) -> EnsembleParams:
        if self.how == "weighted" and sum(self.weights.values()) <= 0:
            raise ValueError("found how: weighted without weights above zero, expected weights by version")
        if self.how in ("mean", "stacked") and self.weights:
            raise ValueError(f"found weights with how: {self.how}, expected how: weighted")
        if self.weights and self.members:
            raise ValueError("found weights and members, expected one of them")
        return self


class Ensemble(SelectionPolicy):
    """Every member answers every row; their answers are averaged by weight, or vote.

    The chosen arm is the member of most weight. A member that fails is left out, the others' weights scaled up,
    and the decision says so.
    """

    Params: ClassVar[type[BaseModel]] = EnsembleParams
    consults = True

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        weights: list[tuple[str, float]] = document.document["weights"]
        self._members = [self.arms.index(version) for version, _ in weights]
        self._weights = np.array([weight for _, weight in weights])
        self._vote = document.document["how"] == "vote"
        self._lead = self._members[int(np.argmax(self._weights))]
        self._vector = tuple(np.eye(len(self.arms))[self._lead].tolist())
        terms = " + ".join(f"{weight:.3g} × version {version}" for version, weight in weights)
        self._reason = f"vote of {terms}" if self._vote else terms
        self._one = RowChoice(self._lead, self._vector, self._reason, None)

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
        assert isinstance(params, EnsembleParams)
        if paired.task == "ranking":
            raise PolicyUnfit("ensemble", "a ranking", "a classification or a regression")
        place = "policy.params.weights" if params.weights else "policy.params.members"
        named = list(params.weights) or list(params.members)
        for version in named:
            if version not in arms or version not in paired.versions:
                raise ArmMissing(version, place, arms)
        members = named or [version for version in paired.versions if version in arms]
        weights = np.array([params.weights.get(version, 0.0 if params.weights else 1.0) for version in members])
        if params.how == "stacked":
            weights = stacked_weights(paired, [paired.versions.index(version) for version in members])
        weights = np.round(weights / weights.sum(), 6)
        kept = [(version, weight) for version, weight in zip(members, weights.tolist(), strict=True) if weight >= 0.005]
        total = sum(weight for _, weight in kept)
        document = {"how": params.how, "weights": [[version, weight / total] for version, weight in kept]}
        return CompiledPolicy(document=document, runs=tuple(version for version, _ in kept))

    def check(self, plan: DeploymentPlan) -> None:
        params = self.params
        assert isinstance(params, EnsembleParams)
        if plan.output == "label" and not self._vote:
            raise PolicyUnfit("ensemble", f"output: label with how: {params.how}", "how: vote, or output: proba")
        if plan.output in ("value", "score") and self._vote:
            raise PolicyUnfit("ensemble", f"how: vote with output: {plan.output}", "how: mean, weighted or stacked")

    # --- serving ---------------------------------------------------------------------------

    def choose(self, batch: Batch) -> Choice:
        arms = np.full(batch.rows, self._lead, dtype=np.intp)
        cells = np.zeros(batch.rows, dtype=np.intp)
        return Choice(arms, cells, np.asarray([self._vector]), [self._reason], [None])

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        return self._one

    def consult(self, rows: int, run: Run) -> Consulted | None:
        asked = [(arm, weight, run(arm, None)) for arm, weight in zip(self._members, self._weights, strict=True)]
        outputs = [output for _, _, output in asked if output is not None]
        if not outputs:
            return None
        good = np.stack([_answered(output, rows) for _, _, output in asked])
        weights = np.where(good, self._weights[:, None], 0.0)
        total = weights.sum(axis=0)
        weights = weights / np.where(total > 0, total, 1.0)
        given = [(output, weights[member]) for member, (_, _, output) in enumerate(asked) if output is not None]
        values = _voted(given) if self._vote else _averaged(given)
        nobody = total == 0
        if nobody.any():
            values = values.astype(object) if values.dtype.kind not in "fO" else values
            values[nobody] = None if values.dtype == object else np.nan
        members = np.asarray(self._members, dtype=np.intp)
        served = members[np.argmax(weights, axis=0)]
        whole = good.all(axis=0)
        failed = np.where(whole, -1, members[np.argmin(good, axis=0)])
        reasons = [self._reason, f"{self._reason}, without those that failed"]
        return Consulted(
            values,
            np.full(rows, self._lead, dtype=np.intp),
            np.where(nobody, self._lead, served),
            np.asarray(~whole, dtype=np.intp),
            reasons,
            [None, None],
            failed,
        )

    def explain(self, context: Mapping[str, Any]) -> list[Candidate]:
        weight = dict(zip(self._members, self._weights.tolist(), strict=True))
        return [
            Candidate(
                version=arm,
                score=weight.get(index, 0.0),
                propensity=self._vector[index],
                reason=f"member with weight {weight[index]:.4g}" if index in weight else "no member",
            )
            for index, arm in enumerate(self.arms)
        ]


def _answered(output: NDArray[Any] | None, rows: int) -> NDArray[np.bool_]:
    """Rows (rows,) that have an answer."""
    if output is None:
        return np.zeros(rows, dtype=bool)
    if output.dtype.kind == "f":
        finite = np.isfinite(output)
        return np.asarray(finite.all(axis=1) if output.ndim == 2 else finite)
    if output.dtype == object:
        return np.array([value is not None and value == value for value in output.tolist()], dtype=bool)
    return np.ones(rows, dtype=bool)


def _averaged(given: Sequence[tuple[NDArray[Any], Floats]]) -> NDArray[Any]:
    """Weighted sum of outputs (rows, …), each with its weight by row; a weight of zero hides whatever is there."""
    total: NDArray[Any] | None = None
    for output, weights in given:
        by_row = weights if output.ndim == 1 else weights[:, None]
        term = np.where(by_row > 0, output, 0.0) * by_row
        total = term if total is None else total + term
    assert total is not None
    return total


def _voted(given: Sequence[tuple[NDArray[Any], Floats]]) -> NDArray[Any]:
    """Labels: the one of most weight, the first named among equals. Probabilities: each class's part of the votes."""
    if given[0][0].ndim == 2:
        votes = np.zeros(given[0][0].shape)
        for output, weights in given:
            votes[np.arange(len(votes)), np.nan_to_num(output).argmax(axis=1)] += weights
        return votes
    rows = len(given[0][0])
    names: dict[Any, int] = {}
    codes = [
        np.array([names.setdefault(value, len(names)) for value in output.tolist()], dtype=np.intp)
        for output, _ in given
    ]
    tally = np.zeros((rows, len(names)))
    heaviest = np.argsort([-weights.max(initial=0.0) for _, weights in given], kind="stable").tolist()
    for code, (_, weights), rank in zip(codes, given, np.argsort(heaviest).tolist(), strict=True):
        # The heaviest voter settles a tie: it outweighs all lighter ones together.
        tally[np.arange(rows), code] += weights + np.where(weights > 0, 1e-9 / 2**rank, 0.0)
    labels = np.empty(len(names), dtype=given[0][0].dtype if given[0][0].dtype.kind in "biuf" else object)
    labels[:] = list(names)
    voted: NDArray[Any] = labels[tally.argmax(axis=1)]
    return voted
