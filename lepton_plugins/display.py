"""Results as tables for a terminal, and as the same in plain text. rich is imported only where one is made."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def plain_text(shown: RenderableType) -> str:
    """What the terminal would show, without colours; as wide as the terminal, else 80 columns."""
    from rich.console import Console

    written = io.StringIO()
    Console(file=written, color_system=None, highlight=False, emoji=False).print(shown)
    return "\n".join(line.rstrip() for line in written.getvalue().rstrip("\n").split("\n"))


def new_table(title: str | None = None) -> Table:
    """A table in the one style that everything uses."""
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
