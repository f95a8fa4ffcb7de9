"""Versions side by side: the record that `compare` makes, as JSON and as a table in a notebook."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Literal

from lepton_plugins.display import plain_text
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.records.report import Dataset, Estimate, Task

if TYPE_CHECKING:
    from rich.console import RenderableType

#: best: the best value of the row · tie: its difference to the best has an interval that covers zero ·
#: worse: one that doesn't · unknown: there is no value, or no difference could be measured.
Verdict = Literal["best", "tie", "worse", "unknown"]


class ComparedVersion(Record):
    """One version that is compared, with what it costs. Milliseconds, rows a second, bytes."""

    version: VersionNumber
    label: str | None = None
    run_id: str | None = None
    evaluated_at: str | None = None
    p50_ms: float | None = None
    """Of a call with one row."""
    rows_per_second: float | None = None
    """At the largest batch that was timed."""
    artifact_bytes: int | None = None
    parameters: int | None = None
    peak_memory: float | None = None

    @property
    def name(self) -> str:
        return f"{self.version} ({self.label})" if self.label else self.version


class LeftOut(Record):
    """A version that can't be compared, and why."""

    version: VersionNumber
    label: str | None = None
    reason: str


class Entry(Record):
    """One version's value in a row. `difference` is this version's minus the best one's, paired."""

    version: VersionNumber
    estimate: Estimate
    verdict: Verdict
    difference: Estimate | None = None


class ComparisonRow(Record):
    """One metric on all rows, or on one slice (`by`, `value`), for all versions in their order."""

    metric: str
    greater_is_better: bool
    by: tuple[str, ...] = ()
    value: tuple[str, ...] = ()
    n: int
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        return ", ".join(f"{column} {value}" for column, value in zip(self.by, self.value, strict=True)) or "all rows"


class Comparison(Record):
    """Versions on the same rows. `overall` has every metric (or the one asked for), `slices` the one by slice."""

    model: str
    dataset: Dataset
    task: Task
    metric: str
    level: float
    versions: tuple[ComparedVersion, ...]
    overall: tuple[ComparisonRow, ...]
    slices: tuple[ComparisonRow, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def headline(self) -> ComparisonRow:
        """The metric that is compared by, on all rows."""
        return next(row for row in self.overall if row.metric == self.metric)

    def __str__(self) -> str:
        return plain_text(self.table())

    def table(self) -> RenderableType:
        """For a terminal."""
        from lepton_plugins.evaluation.comparison_table import ComparisonTable

        return ComparisonTable(self)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(version.name)}</th>" for version in self.versions)
        parts = [
            f"<p><b>{escape(self.model)}</b> on {escape(self.dataset.name)}, {self.dataset.rows:,} rows. "
            f"<b>Bold</b>: best. ≈: a tie; the {self.level:.0%} interval of the difference covers zero.</p>",
            f"<table><thead><tr><th>all rows</th>{head}</tr></thead><tbody>",
            *(_html_row(row, row.metric) for row in self.overall),
        ]
        if self.slices:
            columns = len(self.versions) + 1
            parts.append(f"<tr><th colspan={columns}>{escape(self.metric)} by slice</th></tr>")
            parts += [_html_row(row, f"{row.name} (n={row.n:,})") for row in self.slices]
        parts.append("</tbody></table>")
        parts += [f"<p>{escape(note)}</p>" for note in self.notes]
        parts += [f"<p>Version {escape(out.version)} is left out: {escape(out.reason)}</p>" for out in self.left_out]
        return "".join(parts)


def interval_text(estimate: Estimate) -> str:
    """`0.712 [0.701, 0.723]`, with the decimals that the interval's width makes meaningful.

    A dash where the metric is undefined.
    """
    if estimate.value is None:
        return "–"
    digits = _decimals(estimate)
    text = f"{estimate.value:,.{digits}f}"
    if estimate.low is None and estimate.high is None:
        return text
    low = "-∞" if estimate.low is None else f"{estimate.low:,.{digits}f}"
    high = "∞" if estimate.high is None else f"{estimate.high:,.{digits}f}"
    return f"{text} [{low}, {high}]"


def _decimals(estimate: Estimate) -> int:
    """So many that half the interval's width is between 5 and 50 units of the last one."""
    if estimate.low is None or estimate.high is None or estimate.high <= estimate.low:
        return 4 if abs(estimate.value or 0) < 1000 else 1
    return min(max(math.ceil(-math.log10((estimate.high - estimate.low) / 10)), 0), 6)


def _html_row(row: ComparisonRow, name: str) -> str:
    cells = []
    for entry in row.entries:
        text = escape(interval_text(entry.estimate))
        if entry.verdict == "best":
            text = f"<b>{text}</b>"
        elif entry.verdict == "tie":
            text = f"{text} ≈"
        cells.append(f"<td>{text}</td>")
    return f"<tr><td>{escape(name)}</td>{''.join(cells)}</tr>"
