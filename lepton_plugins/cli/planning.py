"""Commands about plans: plan, diff, promote, rollback, pin, history."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lepton_plugins.cli.opening import open_registry
from lepton_plugins.cli.output import Output, OutputOption, plain, show
from lepton_plugins.cli.terminal import terminal
from lepton_plugins.errors import InvalidInput
from lepton_plugins.listing import listing_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from lepton_plugins.planning.gpu_advice import VersionAdvice
    from lepton_plugins.planning.planned import PlannedDeployment
    from lepton_plugins.planning.what_if import Margin, Scenario
    from lepton_plugins.records.plan import Activation
    from lepton_plugins.records.spec import PlanSpec

_PANEL = "Plans"


class Trust(StrEnum):
    """What may be loaded beyond data formats."""

    pickle = "pickle"


Model = Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")]
TrustOption = Annotated[
    Trust | None,
    typer.Option(help="Load formats that run code (pickle, cloudpickle, custom Python).", show_choices=True),
]
WhyOption = Annotated[str, typer.Option(metavar="TEXT", help="The reason, for the audit trail.")]
PlanFile = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The plan file (YAML).")]


def add_to(app: typer.Typer) -> None:
    for command in (plan, diff, promote, rollback, pin, history):
        app.command(rich_help_panel=_PANEL)(command)


def plan(
    name: Model,
    file: PlanFile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and what more of each resource is worth; store nothing.")
    ] = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,…", help="Compare with other resources (load=400/s,memory=8Gi); may be given again."
        ),
    ] = None,
    accelerator: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which share of such a GPU each version wants (nvidia-a100-40gb)."),
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Put the plan in force at once.")] = False,
    why: WhyOption = "",
    trust: TrustOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Make a plan from a plan file: which version answers where, within the budget.

    It is stored as a revision, and in force once promoted. `lepton schema plan` describes the file.

    Example: lepton plan flights -f plan.yaml --dry-run --what-if load=400/s
    """
    if dry_run and promote:
        raise InvalidInput(
            "--dry-run and --promote exclude each other: a plan that isn't stored can't be put in force."
        )
    if what_if and not dry_run:
        raise InvalidInput("--what-if only compares: it needs --dry-run.")
    if accelerator and not dry_run:
        raise InvalidInput("--accelerator only advises: it needs --dry-run.")
    registry = open_registry()
    planned = registry.plan(_spec(file, name), trust="pickle" if trust else None, save=not dry_run)
    for warning in planned.plan.warnings:
        terminal.warn(warning)
    if promote:
        activation = registry.promote(name, planned.plan.digest, why=why)
        terminal.note(_in_force(activation))
    elif not dry_run:
        terminal.note(f"Stored, not yet in force. Next: lepton diff {name}, then lepton promote {name}")
    result = {**plain(planned.plan), "digest": planned.plan.digest, **plain(planned.model_dump(exclude={"plan"}))}
    if not dry_run:
        show(result, planned.table, output)
        return
    margins = registry.margins(planned, trust="pickle" if trust else None)
    scenarios = registry.what_if(planned, what_if, trust="pickle" if trust else None) if what_if else ()
    advised = registry.gpu_advice(planned, accelerator) if accelerator else ()
    result |= {"margins": plain(margins), "what_if": plain(scenarios), "accelerator": plain(advised)}
    show(result, lambda: _with_resources(planned, margins, scenarios, advised), output)


def _with_resources(
    planned: PlannedDeployment,
    margins: Sequence[Margin],
    scenarios: Sequence[Scenario],
    advised: Sequence[VersionAdvice],
) -> RenderableType:
    from rich.console import Group

    from lepton_plugins.cli.resources_table import advice_table, margins_table, scenarios_table

    parts = [planned.table()]
    parts += [margins_table(margins)] if margins else []
    parts += [scenarios_table(scenarios)] if scenarios else []
    parts += [advice_table(advised)] if advised else []
    return Group(*parts)


def diff(
    name: Model,
    revisions: Annotated[
        list[str] | None, typer.Argument(metavar="[REV] [REV]", help="Numbers or digests (default: in force, latest).")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Compare the plan in force with this plan file.")
    ] = None,
    trust: TrustOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what changes between two plan revisions; exit code 1 if anything does.

    Example: lepton diff flights 3 4
    """
    from rich.text import Text

    given = revisions or []
    if len(given) > 2 or (file is not None and given):
        raise InvalidInput("diff takes at most two revisions, or -f FILE without revisions.")
    registry = open_registry()
    if file is not None:
        found = registry.diff_with(_spec(file, name), trust="pickle" if trust else None)
    else:
        found = registry.diff(name, *given)
    show(found, lambda: Text(str(found)), output)
    if found:
        raise typer.Exit(1)


def promote(
    name: Model,
    revision: Annotated[str | None, typer.Argument(metavar="[REV]", help="Number or digest (default: latest).")] = None,
    why: WhyOption = "",
    force: Annotated[bool, typer.Option("--force", help="Also when another plan came into force meanwhile.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Put a stored plan in force.

    Example: lepton promote flights 4 --why "better for night flights"
    """
    _show_activation(open_registry().promote(name, revision, why=why, force=force), output)


def rollback(
    name: Model,
    to: Annotated[str | None, typer.Option(metavar="REV", help="Number or digest (default: the one before).")] = None,
    why: WhyOption = "",
    output: OutputOption = Output.table,
) -> None:
    """Put the plan before (or a given one) back in force.

    Example: lepton rollback flights --why "errors on carrier UA"
    """
    _show_activation(open_registry().rollback(name, to=to, why=why), output)


def pin(
    name: Model,
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help="Number or label.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Go back to the plan that the pin replaced.")] = False,
    why: WhyOption = "",
    trust: TrustOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Send all traffic to one version; --off ends that.

    Example: lepton pin flights 2 --why incident-123
    """
    if off == (version is not None):
        raise InvalidInput("pin takes either a VERSION or --off.")
    registry = open_registry()
    if version is None:
        activation = registry.unpin(name, why=why)
    else:
        activation = registry.pin(name, version, why=why, trust="pickle" if trust else None)
    _show_activation(activation, output)


def history(name: Model, output: OutputOption = Output.table) -> None:
    """Show the audit trail: every plan that was put in force, by whom and why.

    Example: lepton history flights -o json
    """
    entries = open_registry().history(name)
    show(entries, lambda: listing_table(entries), output)


def _spec(file: Path, name: str) -> PlanSpec:
    from lepton_plugins.planning.spec_file import read_spec

    spec = read_spec(file)
    if spec.model != name:
        raise InvalidInput(f"{file}: found a plan for the model {spec.model!r}, expected one for {name!r}.")
    return spec


def _show_activation(activation: Activation, output: Output) -> None:
    show(activation, lambda: _in_force(activation), output)


def _in_force(activation: Activation) -> str:
    from lepton_plugins.listings import short_digest

    return (
        f"{activation.model}: plan #{activation.to_number} ({short_digest(activation.to_digest)}) is in force "
        f"({activation.action} by {activation.who})."
    )
