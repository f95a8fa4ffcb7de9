"""`weighted`: fixed shares, assigned by a slot table that keeps units where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator

from lepton_plugins.errors import ArmMissing
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.routing.policy import (
    Batch,
    Candidate,
    Choice,
    CompiledPolicy,
    Proposal,
    RowChoice,
    SelectionPolicy,
)
from lepton_selection.slot_table import SHIFT, SlotTable, assign

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions


class WeightedParams(Record):
    """Parameters of `weighted`."""

    shares: Annotated[
        dict[VersionNumber, Annotated[float, Field(ge=0, allow_inf_nan=False)]],
        Field(description="Part of the traffic by version, summing to 1 (or 100). Absent: the solver's shares."),
    ] = {}

    @field_validator("shares")
    @classmethod
    def _sum_to_one(cls, shares: dict[str, float]) -> dict[str, float]:
        total = sum(shares.values())
        if shares and not any(abs(total - whole) <= 1e-6 * whole for whole in (1, 100)):
            raise ValueError(f"found shares that sum to {total:g}, expected 1 (or 100)")
        return shares


class Weighted(SelectionPolicy):
    """Every request draws from the same shares; the same unit gets the same arm as long as it can.

    The stored table is `{"slots": [[version, length], …]}`, 65,536 slots in runs.
    """

    Params: ClassVar[type[BaseModel]] = WeightedParams

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        table = SlotTable(document.document["slots"], self.arms)
        self._table = table
        self._slots = table.row
        self._vectors = np.asarray([table.vector])
        # One cell an arm: they share the vector and differ in the reason.
        self._shared = np.broadcast_to(self._vectors, (len(self.arms), len(self.arms)))
        self._reasons = [f"share {100 * share:.4g} %" for share in table.vector]
        self._segments: list[str | None] = [None] * len(self.arms)
        self._rows = [RowChoice(arm, table.vector, reason, None) for arm, reason in enumerate(self._reasons)]

    @classmethod
    def propose(cls, params: BaseModel, paired: PairedPredictions) -> Proposal | None:
        """Without shares of the user's: every version, by its mean utility over all rows."""
        assert isinstance(params, WeightedParams)
        for version in params.shares:
            if version not in paired.versions:
                raise ArmMissing(version, "policy.params.shares", paired.versions)
        if params.shares:
            return None
        return Proposal(
            segments=["all"],
            traffic=np.ones(1),
            utility=paired.utility.mean(axis=0, keepdims=True),
            allowed=np.ones((1, len(paired.versions)), dtype=bool),
            under=None if paired.under is None else paired.under.mean(axis=0, keepdims=True),
        )

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
        assert isinstance(params, WeightedParams)
        wanted = {version: params.shares.get(version, 0.0) for version in arms}
        if shares is not None:
            solved = dict(zip(paired.versions, shares[0].tolist(), strict=True))
            wanted = {version: solved.get(version, 0.0) for version in arms}
        slots = assign(wanted, previous.document["slots"] if previous is not None else None)
        return CompiledPolicy(document={"slots": slots})

    def choose(self, batch: Batch) -> Choice:
        arms = self._table.choose(batch.draws)
        return Choice(arms, arms, self._shared, self._reasons, self._segments)

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        return self._rows[self._slots[draw >> SHIFT]]

    def explain(self, context: Mapping[str, Any]) -> list[Candidate]:
        return [
            Candidate(version=arm, score=share, propensity=share, reason=reason)
            for arm, share, reason in zip(self.arms, self._table.vector, self._reasons, strict=True)
        ]
