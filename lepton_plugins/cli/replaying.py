"""The command that goes through a decision log again: replay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lepton_plugins.cli.opening import deployment_directory, open_registry
from lepton_plugins.cli.output import Output, OutputOption, show
from lepton_plugins.cli.planning import TrustOption

if TYPE_CHECKING:
    from lepton_plugins.replay.report import OffPolicy


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel="Routing")(replay)


def replay(
    log: Annotated[str, typer.Argument(metavar="LOG", help="The decision log: a directory, a file or a URI.")],
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE|DIR", help="Another plan: a plan file or a deployment directory."),
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The deployment directory that decided, where its plan is in no registry."),
    ] = None,
    trust: TrustOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Make logged decisions once more, or tell what another plan would have earned.

    Without -f each decision must come out as it was logged; exit code 1 if one doesn't. With -f: the mean
    reward of another plan, estimated from the log; exit code 1 where the log tells too little.

    Example: lepton replay lepton-decisions -f new-plan.yaml
    """
    if file is None:
        from lepton_plugins.replay.replay import plans_of, replay

        named = deployment_directory(directory) if directory is not None else None
        registry = None if named is not None else open_registry().registry
        verification = replay(log, plans_of(registry, named))
        show(verification, verification.table, output)
        if not verification.passed:
            raise typer.Exit(1)
        return
    if file.is_dir():
        estimate = _of_directory(log, file)
    else:
        estimate = open_registry().replay(log, file, trust="pickle" if trust else None)
    show(estimate, estimate.table, output)
    if estimate.refusal is not None:
        raise typer.Exit(1)


def _of_directory(log: str, directory: Path) -> OffPolicy:
    """Without a registry: `ModelRegistry` would look for one."""
    from lepton_plugins.replay.replay import plan_in, replay_as

    return replay_as(log, *plan_in(directory))
