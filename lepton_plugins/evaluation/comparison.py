"""Versions side by side: the record that `compare` makes, as JSON and as a table in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Literal

from lepton_plugins.display import new_table, plain_text
from lepton_plugins.evaluation.interval_text import interval_text
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.records.report import Dataset, Estimate, Task

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

#: best: the best value of the row · tie: its difference to the best has an interval that covers zero ·
#: worse: one that doesn't · unknown: there is no value, or no difference could be measured.
Verdict = Literal["best", "tie", "worse", "unknown"]

_MARKS = {"best": "★", "tie": "≈", "worse": " ", "unknown": " "}
_STYLES = {"best": "bold green", "tie": "", "worse": "dim", "unknown": "dim"}


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
        return _Table(self)

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


class _Table:
    """Overall metrics, then the one metric by slice; versions that don't fit beside each other go below.

    A row a metric or slice, a column a version; best and ties marked.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        comparison = self.comparison
        yield Text(f"{comparison.model} on {comparison.dataset.name}, {comparison.dataset.rows:,} rows")
        yield Text(f"★ best   ≈ tie: the {comparison.level:.0%} interval of the difference covers zero", style="dim")
        names = [row.metric for row in comparison.overall]
        yield from self._tables("all rows", names, comparison.overall, options.max_width)
        if comparison.slices:
            names = [f"{row.name} (n={row.n:,})" for row in comparison.slices]
            yield from self._tables(f"{comparison.metric} by slice", names, comparison.slices, options.max_width)
        for out in comparison.left_out:
            yield Text(f"Version {out.version} is left out: {out.reason}")
        for note in comparison.notes:
            yield Text(note, style="dim")

    def _tables(
        self, title: str, names: Sequence[str], rows: Sequence[ComparisonRow], width: int
    ) -> list[RenderableType]:
        from rich.text import Text

        versions = [version.name for version in self.comparison.versions]
        cells = [[_cell(entry) for entry in row.entries] for row in rows]
        widest = max([len(name) for name in versions] + [len(cell) for row in cells for cell in row])
        first = min(max(len(title), *(len(name) for name in names)), width - widest - 2)
        abreast = max((width - first) // (widest + 2), 1)
        tables: list[RenderableType] = []
        for start in range(0, len(versions), abreast):
            table = new_table()
            table.add_column(title, width=first, overflow="fold")
            for name in versions[start : start + abreast]:
                table.add_column(name, justify="right", no_wrap=True)
            for name, row in zip(names, cells, strict=True):
                table.add_row(Text(name), *row[start : start + abreast])
            tables += ["", table]
        return tables


def _cell(entry: Entry) -> Text:
    from rich.text import Text

    return Text(f"{interval_text(entry.estimate)} {_MARKS[entry.verdict]}", style=_STYLES[entry.verdict])


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
