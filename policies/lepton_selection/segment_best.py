"""`segment_best`: in each segment the version that is provably better there, else the default."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field, field_validator

from lepton_plugins.errors import EvidenceColumnMissing, PolicyUnfit
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.records.record import Record
from lepton_plugins.routing.policy import (
    Batch,
    Candidate,
    Choice,
    CompiledPolicy,
    Proposal,
    RowChoice,
    SelectionPolicy,
)
from lepton_selection.bins import Bins
from lepton_selection.segments import Segments, canonical
from lepton_selection.shrinkage import Differences, shrink
from lepton_selection.slot_table import SHIFT, SlotTable, assign

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

#: The cell of rows without a segment, in the proposal and in tables shown.
MISSING = "(missing)"

#: A cell's answer; its slots, where it has several answers; those answers.
_Cell: TypeAlias = "tuple[RowChoice, bytes | array[int] | None, Sequence[RowChoice]]"


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


class SegmentBest(SelectionPolicy):
    """A table from segments to arms. The default is left only where another arm is proved better.

    Proved: the lower bound of its shrunken paired difference, simultaneous over all arms and segments
    (`shrinkage`), is above zero, and the segment's own rows agree. Where no arm differs from the default
    anywhere, every segment stays with the default with probability 1 - (1 - level) / 2 or more.
    Rows of an unknown segment, or with a missing value, get the default.
    """

    Params: ClassVar[type[BaseModel]] = SegmentBestParams

    def __init__(self, document: PolicyDocument, files: Mapping[str, bytes], arms: Sequence[str], default: int) -> None:
        super().__init__(document, files, arms, default)
        content = document.document
        self._cells: list[dict[str, Any]] = content["cells"]
        bins = {name: Bins(edges) for name, edges in content.get("bins", {}).items()}
        self._segments = Segments(content["by"], [cell["value"] for cell in self._cells], bins)
        whole = np.eye(len(self.arms)).tolist()
        # Where one arm answers a cell alone there is nothing to draw; the others have a table each.
        single = [self.arms.index(cell["slots"][0][0]) if len(cell["slots"]) == 1 else -1 for cell in self._cells]
        single += [default, default]
        self._tables = {
            number: SlotTable(cell["slots"], self.arms) for number, cell in enumerate(self._cells) if single[number] < 0
        }
        vectors = [tuple(whole[arm]) if arm >= 0 else self._tables[cell].vector for cell, arm in enumerate(single)]
        self._vectors = np.asarray(vectors)
        self._reasons = [cell["reason"] for cell in self._cells] + ["default: unknown segment", self._missing_reason()]
        self._names: list[str | None] = [*self._segments.names, None, None]
        self._single = np.asarray(single, dtype=np.intp)
        self._rows = [self._ready(cell, arm) for cell, arm in enumerate(single)]
        self._column = content["by"][0] if len(content["by"]) == 1 and not bins else None
        self._by_text: dict[str | None, _Cell] = {
            value[0]: self._rows[cell] for value, cell in self._segments.cells.items()
        }
        self._by_text[None] = self._rows[self._segments.missing]
        self._unknown = self._rows[self._segments.unknown]

    # --- planning --------------------------------------------------------------------------

    @classmethod
    def needs(cls, params: BaseModel) -> tuple[str, ...]:
        assert isinstance(params, SegmentBestParams)
        return params.columns

    @classmethod
    def propose(cls, params: BaseModel, paired: PairedPredictions) -> Proposal | None:
        assert isinstance(params, SegmentBestParams)
        segments = Segments.found_in(params.columns, paired.columns, _bins(params, paired))
        codes = segments.find(paired.columns, paired.rows)
        known = codes < segments.unknown
        default = paired.default
        others = [index for index in range(len(paired.versions)) if index != default]
        count, arms = len(segments.values), len(paired.versions)
        rows = np.bincount(codes[known], minlength=count).astype(np.float64)
        base = np.bincount(codes[known], weights=paired.utility[known, default], minlength=count) / np.maximum(rows, 1)
        utility = np.repeat(base[:, None], arms, axis=1)
        low = np.zeros((count, arms))
        allowed = np.zeros((count, arms), dtype=bool)
        allowed[:, default] = True
        if others and known.any():
            found = cls._differences(params, paired, codes, known)
            utility[:, others] += found.shrunken
            low[:, others] = found.low
            enough = found.shrunken >= params.min_gain * paired.unit
            allowed[:, others] = (found.low > 0) & (found.raw > 0) & enough
        names = list(segments.names)
        traffic = rows / paired.rows
        if not known.all():
            names.append(MISSING)
            traffic = np.r_[traffic, 1 - known.mean()]
            utility = np.vstack([utility, paired.utility[~known].mean(axis=0)])
            allowed = np.vstack([allowed, np.arange(arms) == default])
        return Proposal(
            segments=names,
            traffic=traffic,
            utility=utility,
            allowed=allowed,
            detail={"segments": segments, "low": low, "rows": rows},
            under=None if paired.under is None else _means(paired.under, codes, known, count),
        )

    @classmethod
    def _differences(
        cls,
        params: SegmentBestParams,
        paired: PairedPredictions,
        codes: NDArray[np.intp],
        known: NDArray[np.bool_],
    ) -> Differences:
        rows = slice(None) if known.all() else np.flatnonzero(known)
        utility = paired.utility[rows]
        differences = np.delete(utility, paired.default, axis=1)
        differences -= utility[:, [paired.default]]
        return shrink(
            differences,
            codes[rows],
            None if paired.groups is None else paired.groups[rows],
            level=params.level,
            shrinkage=params.shrinkage,
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
        assert isinstance(params, SegmentBestParams)
        assert proposal is not None
        assert shares is not None
        segments: Segments = proposal.detail["segments"]
        before = {}
        if previous is not None and tuple(previous.document["by"]) == params.columns:
            before = {tuple(cell["value"]): cell["slots"] for cell in previous.document["cells"]}
        cells = []
        for cell, value in enumerate(segments.values):
            wanted = {
                version: share
                for version, share in zip(paired.versions, shares[cell].tolist(), strict=True)
                if version in arms
            }
            candidates = {
                version: [
                    _figure((proposal.utility[cell, i] - proposal.utility[cell, paired.default]) / paired.unit),
                    _figure(proposal.detail["low"][cell, i] / paired.unit),
                ]
                for i, version in enumerate(paired.versions)
                if i != paired.default and version in arms
            }
            able = [paired.versions[int(i)] for i in np.flatnonzero(proposal.allowed[cell]) if i != paired.default]
            cells.append(
                {
                    "value": list(value),
                    "rows": int(proposal.detail["rows"][cell]),
                    "slots": assign(wanted, before.get(value)),
                    "candidates": candidates,
                    "reason": _reason(segments.names[cell], wanted, paired.versions[paired.default], able),
                }
            )
        document: dict[str, Any] = {"by": list(params.columns), "metric": paired.metric, "cells": cells}
        if segments.bins:
            document["bins"] = {name: bins.edges for name, bins in segments.bins.items()}
        return CompiledPolicy(features=params.columns, document=document)

    # --- serving ---------------------------------------------------------------------------

    def choose(self, batch: Batch) -> Choice:
        cells = self._segments.find(batch.context, batch.rows)
        arms = self._single[cells]
        for cell, table in self._tables.items():
            here = np.flatnonzero(cells == cell)
            arms[here] = table.choose(batch.draws[here])
        return Choice(arms, cells, self._vectors, self._reasons, self._names)

    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        if self._column is None:
            found = self._rows[self._segments.find_one(context)]
        else:
            value = context.get(self._column)
            found = self._by_text.get(value if type(value) is str else canonical(value), self._unknown)
        row, slots, choices = found
        return row if slots is None else choices[slots[draw >> SHIFT]]

    def explain(self, context: Mapping[str, Any]) -> list[Candidate]:
        cell = self._segments.find_one(context)
        vector = self._vectors[cell].tolist()
        figures = self._cells[cell]["candidates"] if cell < self._segments.unknown else {}
        return [
            Candidate(
                version=arm,
                score=0.0 if index == self.default else figures.get(arm, [None])[0],
                propensity=vector[index],
                reason=self._reasons[cell] if vector[index] else self._lost(index, figures.get(arm)),
            )
            for index, arm in enumerate(self.arms)
        ]

    def _ready(self, cell: int, single: int) -> _Cell:
        """A cell's answer, or its slots and the answers they choose from."""
        arms = [single] if single >= 0 else range(len(self.arms))
        vector = tuple(self._vectors[cell].tolist())
        rows = [RowChoice(arm, vector, self._reasons[cell], self._names[cell]) for arm in arms]
        return rows[0], None if single >= 0 else self._tables[cell].row, rows

    def _lost(self, arm: int, figures: Sequence[float] | None) -> str:
        if arm == self.default:
            return "the default, but another version is proved better here"
        if figures is None:
            return "not measured in this segment"
        difference, low = figures
        measured = f"{self.document.document['metric']} better by {difference:.4g}, at least {low:.4g}"
        return f"not proved better: {measured}" if low <= 0 else f"proved better, but not chosen: {measured}"

    def _missing_reason(self) -> str:
        return f"default: {' or '.join(self.document.document['by'])} is missing"


def _means(
    values: NDArray[np.float64], codes: NDArray[np.intp], known: NDArray[np.bool_], count: int
) -> NDArray[np.float64]:
    """The mean of each column (rows, columns) in each segment, those of rows without a segment last."""
    rows = np.maximum(np.bincount(codes[known], minlength=count), 1)
    sums = [np.bincount(codes[known], weights=column[known], minlength=count) for column in values.T]
    means = np.stack(sums, axis=1) / rows[:, None]
    return means if known.all() else np.vstack([means, values[~known].mean(axis=0)])


def _bins(params: SegmentBestParams, paired: PairedPredictions) -> dict[str, Bins]:
    found = {}
    for text in params.by:
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


def _figure(value: float) -> float:
    """Six significant digits: enough to read, and the same on machines whose sums round differently."""
    return float(f"{value:.6g}")


def _reason(segment: str, shares: Mapping[str, float], default: str, able: Sequence[str]) -> str:
    answering = [version for version, share in shares.items() if share > 0]
    if answering != [default]:
        return f"best in {segment}" if len(answering) == 1 else f"best in {segment} within the budget"
    if able:
        return f"default: {', '.join(able)} better in {segment}, but not worth it or not within the budget"
    return f"default: nothing proved better in {segment}"
