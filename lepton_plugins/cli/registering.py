"""Commands about what is in the registry: register, list, purge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lepton_plugins.cli.opening import open_registry
from lepton_plugins.cli.output import Output, OutputOption, show
from lepton_plugins.cli.terminal import terminal
from lepton_plugins.errors import InvalidInput
from lepton_plugins.listing import listing_table

_PANEL = "Registry"


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=_PANEL)(register)
    app.command("list", rich_help_panel=_PANEL)(list_)
    app.command(rich_help_panel=_PANEL)(purge)


def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model; made if there is none.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The model: a file or a directory.")],
    framework: Annotated[
        str | None,
        typer.Option(metavar="F", help="onnx, torch, sklearn, tensorflow, mlflow … (default: told from the files)."),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="L", help="Your own name for the version, such as v1.")] = None,
    meta: Annotated[list[str] | None, typer.Option(metavar="K=V", help="Metadata; may be given several times.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Register a model from a path as a new version.

    Example: lepton register flights model.onnx --framework onnx --label v1 --meta owner=ops
    """
    version = open_registry().register_model(
        model_name=name,
        model_path=path,
        model_version=label,
        model_framework=framework,
        model_metadata=pairs(meta or [], "--meta"),
    )
    from lepton_plugins.listings import versions_listing

    show(version, lambda: listing_table(versions_listing([version])), output)


def list_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A model, to see its versions.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """List the registered models, or the versions of one; -o json has metadata in full.

    Example: lepton list flights -o json
    """
    registry = open_registry()
    if name is None:
        models = registry.list_models()
        show(models, lambda: listing_table(models), output)
    else:
        versions = registry.list_versions(name)
        show(versions, lambda: listing_table(versions), output)


def purge(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One model only (default: all).")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Remove everything that Lepton wrote to the registry, and nothing else.

    Your models, versions, tags and descriptions stay as they were.

    Example: lepton purge flights --dry-run
    """
    registry = open_registry()
    found = registry.purge(name, dry_run=True)
    if found and not dry_run:
        if not yes and not _confirmed(len(found)):
            raise typer.Exit(1)
        found = registry.purge(name)
    verb = "would be removed" if dry_run else "removed"
    terminal.note(f"{len(found)} things {verb}." if found else "Lepton wrote nothing here.")
    if found:
        terminal.note(
            "MLflow keeps what it deletes, and metrics lepton/… on your logged models, until its administrator runs "
            "`mlflow gc`."
        )
    show(found, lambda: "\n".join(found), output)


def _confirmed(things: int) -> bool:
    if not sys.stdin.isatty():
        raise InvalidInput("purge asks before it removes anything; without a terminal pass --yes.")
    typer.echo(f"Remove {things} things that Lepton wrote? [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def pairs(given: list[str], option: str) -> dict[str, str]:
    """`k=v` options as a mapping; the value may hold further equal signs."""
    found: dict[str, str] = {}
    for pair in given:
        key, separator, value = pair.partition("=")
        if not separator or not key.strip():
            raise InvalidInput(f"{option}: found {pair!r}, expected key=value.")
        if key.strip() in found:
            raise InvalidInput(f"{option}: the key {key.strip()!r} is given twice.")
        found[key.strip()] = value
    return found
