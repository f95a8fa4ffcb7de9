"""A comparison in the terminal: a row a metric or slice, a column a version; best and ties marked."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from lepton_plugins.cli.output import new_table
from lepton_plugins.evaluation.comparison import ComparedVersion, Comparison, ComparisonRow, Entry, interval_text

_MARKS = {"best": "★", "tie": "≈", "worse": " ", "unknown": " "}

#: Columns of versions that fit beside the name of a row in 80 characters.
_ABREAST = 2


def comparison_table(comparison: Comparison) -> RenderableType:
    """Overall metrics, then the one metric by slice; more than a few versions go below each other."""
    parts: list[RenderableType] = [
        Text(f"{comparison.model} on {comparison.dataset.name}, {comparison.dataset.rows:,} rows"),
        Text(f"★ best   ≈ tie: the {comparison.level:.0%} interval of the difference covers zero", style="dim"),
    ]
    versions = comparison.versions
    abreast = _ABREAST if len(versions) > _ABREAST + 1 else len(versions)
    for start in range(0, len(versions), abreast):
        shown = range(start, min(start + abreast, len(versions)))
        parts += ["", _table("all rows", comparison.overall, versions, shown, slices=False)]
    if comparison.slices:
        for start in range(0, len(versions), abreast):
            shown = range(start, min(start + abreast, len(versions)))
            parts += ["", _table(f"{comparison.metric} by slice", comparison.slices, versions, shown, slices=True)]
    parts += [Text(f"Version {out.version} is left out: {out.reason}") for out in comparison.left_out]
    parts += [Text(note, style="dim") for note in comparison.notes]
    return Group(*parts)


def _table(
    title: str, rows: Sequence[ComparisonRow], versions: Sequence[ComparedVersion], shown: range, *, slices: bool
) -> RenderableType:
    table = new_table()
    table.add_column(title, overflow="fold")
    if slices:
        table.add_column("n", justify="right", no_wrap=True)
    for index in shown:
        table.add_column(versions[index].name, justify="right", no_wrap=True)
    for row in rows:
        name = row.name if slices else row.metric
        cells = [_cell(row.entries[index]) for index in shown]
        table.add_row(Text(name), *([Text(f"{row.n:,}")] if slices else []), *cells)
    return table


def _cell(entry: Entry) -> Text:
    style = {"best": "bold green", "tie": "", "worse": "dim", "unknown": "dim"}[entry.verdict]
    return Text(f"{interval_text(entry.estimate)} {_MARKS[entry.verdict]}", style=style)
