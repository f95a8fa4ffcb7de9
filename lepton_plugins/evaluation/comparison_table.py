"""A comparison in the terminal: a row a metric or slice, a column a version; best and ties marked."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from lepton_plugins.display import new_table
from lepton_plugins.evaluation.comparison import Comparison, ComparisonRow, Entry, interval_text

_MARKS = {"best": "★", "tie": "≈", "worse": " ", "unknown": " "}
_STYLES = {"best": "bold green", "tie": "", "worse": "dim", "unknown": "dim"}


class ComparisonTable:
    """Overall metrics, then the one metric by slice; versions that don't fit beside each other go below."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
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
    return Text(f"{interval_text(entry.estimate)} {_MARKS[entry.verdict]}", style=_STYLES[entry.verdict])
