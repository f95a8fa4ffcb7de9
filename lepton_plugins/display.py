"""Results as tables for a terminal, and as the same in plain text. rich is imported only where one is made."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from lepton_plugins.listing import Listing

#: Characters that a column of words keeps, however narrow the terminal.
_LEAST = 9


def plain_text(shown: RenderableType) -> str:
    """What the terminal would show, without colours; as wide as the terminal, else 80 columns."""
    from rich.console import Console

    written = io.StringIO()
    Console(file=written, color_system=None, highlight=False, emoji=False).print(shown)
    return "\n".join(line.rstrip() for line in written.getvalue().rstrip("\n").split("\n"))


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


def new_table(title: str | None = None) -> Table:
    """A table in the one style that everything uses."""
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
