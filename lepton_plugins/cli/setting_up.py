"""Commands about the installation: quickstart, plugins, schema, doctor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lepton_plugins.cli.output import Output, OutputOption, show
from lepton_plugins.cli.terminal import terminal
from lepton_plugins.listing import listing_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lepton_plugins.doctor import Diagnosis

_PANEL = "Set-up"


def add_to(app: typer.Typer) -> None:
    for command in (quickstart, plugins, schema, doctor):
        app.command(rich_help_panel=_PANEL)(command)


def quickstart(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where its files go.")] = Path("lepton-quickstart"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of using what an earlier run made.")
    ] = False,
    sample: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Part of the flights to use, for a quicker and rougher run.")
    ] = 1.0,
) -> None:
    """Run the whole path on real flights data: train, register, evaluate, plan, promote, serve, measure.

    Takes about a minute and leaves an embedded registry that you can look into.

    Example: lepton quickstart
    """
    from lepton_plugins.quickstart.run import run

    run(directory, quiet=terminal.quiet, fresh=fresh, sample=sample)


def plugins(output: OutputOption = Output.table) -> None:
    """List the plugins: where each comes from, what it offers, and why any failed to load.

    Exit code 1 if one failed or two clash.

    Example: lepton plugins -o json
    """
    from lepton_plugins.plugin_report import plugin_report

    report = plugin_report()
    show(report, lambda: listing_table(report), output)
    for entry in report:
        if entry.error:
            terminal.warn(
                f"plugin {entry.name!r} of {entry.distribution} {entry.version} failed to load: {entry.error}"
            )
    from lepton_plugins.plugins import plugins as loaded

    clashes = loaded().clashes()
    for clash in clashes:
        terminal.warn(str(clash))
    if clashes or any(entry.error for entry in report):
        raise typer.Exit(1)


def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="plan, report, decision … (default: list).")
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="json or yaml; names as a table.")] = Output.json,
) -> None:
    """Print the JSON Schema of a record; an editor completes the plan file with `lepton schema plan`.

    Write it to a file and begin the plan file with: # yaml-language-server: $schema=plan.schema.json

    Example: lepton schema plan > plan.schema.json
    """
    from lepton_plugins.schemas import json_schema, schemas_listing

    if name is None:
        names = schemas_listing()
        show(
            [{"name": entry.name, "summary": entry.summary} for entry in names],
            lambda: listing_table(names),
            Output.table,
        )
        return
    document = json_schema(name)
    if output is Output.yaml:
        show(document, str, output)
    else:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair what Lepton derives in the registry, such as aliases.")
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Tell what is installed, which registry answers, and what is missing for what.

    Exit code 1 if the registry doesn't answer, a plugin failed or something needs repair.

    Example: lepton doctor --registry http://mlflow.example:5000
    """
    from lepton_plugins.doctor import diagnose

    diagnosis = diagnose(terminal.registry, fix=fix)
    show(diagnosis, lambda: _diagnosis_table(diagnosis), output)
    if not diagnosis.ok:
        raise typer.Exit(1)


def _diagnosis_table(diagnosis: Diagnosis) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from lepton_plugins.display import new_table

    marks = {"ok": ("✓", "green"), "missing": ("–", "dim"), "warning": ("!", "yellow"), "failed": ("✗", "red")}
    table = new_table()
    table.add_column("")
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in diagnosis.findings:
        mark, style = marks[finding.state]
        found = finding.found + (f"\n→ {finding.advice}" if finding.advice else "")
        table.add_row(Text(mark, style=style), Text(finding.what), Text(found))
    return Group(table)
