"""Showing results: the same value as a table, as JSON or as YAML."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


class Output(StrEnum):
    """The forms in which a result is written to stdout."""

    table = "table"
    json = "json"
    yaml = "yaml"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the result on stdout.")]


def show(value: Any, table: Callable[[], RenderableType], output: Output) -> None:
    """Write `value` (records, mappings, sequences of them) to stdout; `table` is made only where it is asked for."""
    if output is Output.table:
        shown = table()
        # Plain text may be a path or an id, which somebody copies: the terminal breaks its lines, not we.
        stdout().print(shown, soft_wrap=isinstance(shown, str), markup=not isinstance(shown, str))
        return
    data = plain(value)
    if output is Output.json:
        sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        return
    import yaml

    sys.stdout.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100))


def plain(value: Any) -> Any:
    """Records as plain JSON values; NaN and infinity become null."""
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return json.loads(value.model_dump_json())
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def stdout() -> Console:
    """Rich's console for results: colours only on a terminal, no highlighting of its own."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, soft_wrap=False)
