"""A list of records that shows itself as a table: in a notebook, and in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lepton_plugins.display import new_table, plain_text

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")

#: Characters that a column of words keeps, however narrow the terminal.
_LEAST = 9


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column: its title and how an item's cell is written. `figures` are set to the right.

    Of a column that is `cut`, a terminal shows what fits of each word; of others all, on several lines.
    """

    title: str
    text: Callable[[T], str | None]
    figures: bool = False
    cut: bool = False


class Listing(list[T]):
    """A list with columns to show it by. Columns that are empty in every row are left out.

    `notes` say what isn't among the items, and why.
    """

    def __init__(
        self, items: Iterable[T], columns: Sequence[Column[T]], empty: str = "Nothing here.", notes: Sequence[str] = ()
    ) -> None:
        super().__init__(items)
        self.empty = empty
        self.notes = tuple(notes)
        self.columns = [column for column in columns if not self or any(column.text(item) for item in self)]

    def rows(self) -> list[list[str]]:
        """The cells, row by row."""
        return [[column.text(item) or "" for column in self.columns] for item in self]

    def __str__(self) -> str:
        return "\n".join([plain_text(listing_table(self)), *self.notes])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        if not self:
            return f"<p>{escape(self.empty)}</p>{notes}"
        head = "".join(f"<th>{escape(column.title)}</th>" for column in self.columns)
        body = "".join(
            "<tr>" + "".join(_cell(column, cell) for column, cell in zip(self.columns, row, strict=True)) + "</tr>"
            for row in self.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


def listing_table(listing: Listing[Any], title: str | None = None) -> RenderableType:
    """A listing as a table that fits 80 columns: figures right, ids folded and never cut."""
    from rich.text import Text

    if not listing:
        return Text(listing.empty)
    table = new_table(title)
    for column in listing.columns:
        table.add_column(
            column.title,
            justify="right" if column.figures else "left",
            no_wrap=column.figures,
            overflow="ellipsis" if column.cut else "fold",
            min_width=min(_LEAST, max(len(column.title), *(len(column.text(item) or "") for item in listing))),
        )
    for row in listing.rows():
        table.add_row(*(Text(cell) for cell in row))
    return table


def _cell(column: Column[Any], text: str) -> str:
    style = ' style="text-align:right"' if column.figures else ""
    return f"<td{style}>{escape(text).replace(chr(10), '<br>')}</td>"
