"""`office_hours`: one version between two hours of the day, another outside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from lepton_plugins.errors import ArmMissing
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.routing.policy import Proposal, SelectionPolicy

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

Hour = Annotated[float, Field(ge=0, le=24)]


class OfficeHoursParams(Record):
    """Parameters of `office_hours`. A Record is strict: a misspelt key is an error that users see."""

    day: Annotated[VersionNumber, Field(description="The version that answers from `opens` until `closes`.")]
    night: Annotated[VersionNumber, Field(description="The version that answers at all other hours.")]
    hour: Annotated[str, Field(description="The context column with the hour of the day, 0 to 24.")] = "hour"
    opens: Hour = 8.0
    closes: Hour = 18.0


class OfficeHours(SelectionPolicy):
    """Always certain: the propensity of the version whose hours it is is 1. Without an hour, the default answers."""

    Params: ClassVar[type[BaseModel]] = OfficeHoursParams

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        params = self.params
        assert isinstance(params, OfficeHoursParams)
        self.column, self.opens, self.closes = params.hour, params.opens, params.closes
        # A version that never answered in the evaluation data isn't loaded; the default stands in for it.
        index = {version: position for position, version in enumerate(self.arms)}
        self.day = index.get(params.day, default)
        self.night = index.get(params.night, default)

    # --- planning --------------------------------------------------------------------------

    @classmethod
    def needs(cls, params: BaseModel) -> tuple[str, ...]:
        assert isinstance(params, OfficeHoursParams)
        return (params.hour,)

    @classmethod
    def propose(cls, params: BaseModel, paired: PairedPredictions) -> Proposal | None:
        """None: the hours decide, not the solver. But both versions must be there."""
        assert isinstance(params, OfficeHoursParams)
        for place, version in (("day", params.day), ("night", params.night)):
            if version not in paired.versions:
                raise ArmMissing(version, f"policy.params.{place}", paired.versions)
        return None

    # --- serving ---------------------------------------------------------------------------

    def propensities(self, context: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float64]:
        vectors = np.zeros((rows, len(self.arms)))
        vectors[np.arange(rows), [self._arm_at(hour) for hour in context[self.column]]] = 1.0
        return vectors

    def reason(self, context: Mapping[str, Any], arm: int) -> str:
        hour = _number(context.get(self.column))
        if hour is None:
            return "no hour: the default answers"
        times = f"{self.opens:g} to {self.closes:g}"
        return (
            f"hour {hour:g} is within {times}"
            if self.opens <= hour < self.closes
            else f"hour {hour:g} is outside {times}"
        )

    def _arm_at(self, value: object) -> int:
        hour = _number(value)
        if hour is None:
            return self.default
        return self.day if self.opens <= hour < self.closes else self.night


def _number(value: object) -> float | None:
    """An hour as a number; None for whatever isn't one (missing, text)."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return None
    hour = float(value)
    return None if hour != hour else hour
