"""Parameters of `segment_best`: the columns whose values, or bins of values, make the segments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field, field_validator

from lepton_plugins.errors import EvidenceColumnMissing, PolicyUnfit
from lepton_plugins.records.record import Record
from lepton_selection.bins import Bins

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _binned(text: str) -> tuple[str, int | None]:
    """`distance:4` is the column and its number of bins."""
    match = re.fullmatch(r"(.+):([0-9]+)", text)
    return (match[1], int(match[2])) if match else (text, None)


class SegmentBestParams(Record):
    """Parameters of `segment_best`."""

    by: Annotated[
        tuple[str, ...],
        BeforeValidator(_listed),
        Field(
            min_length=1,
            max_length=4,
            description="Context columns whose values make the segments, crossed; `distance:4`: four quantile bins.",
        ),
    ]
    min_gain: Annotated[
        float,
        Field(ge=0, allow_inf_nan=False, description="Least shrunken difference, in the metric's unit, worth leaving."),
    ] = 0.0
    shrinkage: Annotated[bool, Field(description="Borrow strength between segments (empirical Bayes).")] = True
    level: Annotated[
        float, Field(gt=0.5, lt=1, description="Of the simultaneous two-sided intervals of all arms and segments.")
    ] = 0.95

    @field_validator("by")
    @classmethod
    def _each_once(cls, by: tuple[str, ...]) -> tuple[str, ...]:
        names = [_binned(text)[0] for text in by]
        if len(set(names)) != len(names):
            raise ValueError(f"found {list(by)}, expected each column once")
        for text in by:
            count = _binned(text)[1]
            if count is not None and not 2 <= count <= 100:
                raise ValueError(f"found {text!r}, expected 2 to 100 bins")
        return by

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(_binned(text)[0] for text in self.by)

    def bins(self, paired: PairedPredictions) -> dict[str, Bins]:
        """The bins of the columns that are binned, by the evidence's quantiles."""
        found = {}
        for text in self.by:
            name, count = _binned(text)
            if count is None:
                continue
            if name not in paired.columns:
                raise EvidenceColumnMissing(name, "segment", paired.columns)
            bins = Bins.found_in(paired.columns[name], count)
            if bins is None:
                raise PolicyUnfit("segment_best", f"by: {text}, a column without numbers", f"by: {name}")
            found[name] = bins
        return found
