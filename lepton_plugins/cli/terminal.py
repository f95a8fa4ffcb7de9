"""What this run of `lepton` was told about its terminal. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console


@dataclass
class Terminal:
    """The options that every command has, and where notes go."""

    registry: str | None = None
    quiet: bool = False
    debug: bool = False

    def reset(self) -> None:
        self.registry, self.quiet, self.debug = None, False, False

    def note(self, text: str) -> None:
        """A line for the person at the terminal, on stderr; not with -q."""
        if not self.quiet:
            typer.secho(text, err=True, dim=True)

    def warn(self, text: str) -> None:
        """A warning, on stderr; -q doesn't hide it."""
        typer.secho("warning: ", err=True, nl=False, fg="yellow")
        typer.echo(text, err=True)

    def fail(self, text: str) -> None:
        """An error, on stderr."""
        typer.secho("error: ", err=True, nl=False, fg="red")
        typer.echo(text, err=True)

    @property
    def stderr(self) -> Console:
        """Rich's console for progress; silent with -q or where stderr isn't a terminal."""
        from rich.console import Console

        return Console(stderr=True, quiet=self.quiet or not sys.stderr.isatty())


terminal = Terminal()
