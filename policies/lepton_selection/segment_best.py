"""`segment_best`: in each segment the version that is provably better there, else the default."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from lepton_plugins.records.plan import PolicyDocument
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
from lepton_selection.segment_cells import cells_of
from lepton_selection.segment_params import SegmentBestParams
from lepton_selection.segments import Segments, canonical
from lepton_selection.shrinkage import Differences, shrink
from lepton_selection.slot_table import SHIFT, SlotTable

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

#: The cell of rows without a segment, in the proposal and in tables shown.
MISSING = "(missing)"

#: A cell's answer; its slots, where it has several answers; those answers.
_Cell: TypeAlias = "tuple[RowChoice, bytes | array[int] | None, Sequence[RowChoice]]"


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
        segments = Segments.found_in(params.columns, paired.columns, params.bins(paired))
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
        cells = cells_of(proposal, shares, paired, arms, before)
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
