"""Commands about evidence: evaluate, compare."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lepton_plugins.cli.opening import open_registry
from lepton_plugins.cli.output import Output, OutputOption, show
from lepton_plugins.cli.planning import Model, TrustOption
from lepton_plugins.cli.terminal import terminal
from lepton_plugins.errors import InvalidInput
from lepton_plugins.listing import listing_table

if TYPE_CHECKING:
    from lepton_plugins.records.report import EvaluationReport

_PANEL = "Evidence"


class TaskName(StrEnum):
    """What the versions are for."""

    classification = "classification"
    regression = "regression"
    ranking = "ranking"


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=_PANEL)(evaluate)
    app.command(rich_help_panel=_PANEL)(compare)


def evaluate(
    name: Model,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labelled data: parquet, csv or jsonl.", show_default=False)
    ] = None,
    target: Annotated[str | None, typer.Option(metavar="COL", help="The column with the truth.")] = None,
    task: Annotated[TaskName | None, typer.Option(help="What the versions are for.", show_choices=True)] = None,
    versions: Annotated[
        str | None, typer.Option(metavar="1,3", help="Numbers or labels, by comma (default: all).")
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", metavar="COL", help='A column, columns crossed "a,b", or quantile bins "distance:4".'),
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="A further column to keep for policies.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COL", help="In a ranking: the column of the users or queries.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The positive class of two (default: the greater value).")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the data is called in the registry (default: the file's name)."),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Add Evidently's HTML report.")] = False,
    cost: Annotated[
        bool,
        typer.Option("--cost/--no-cost", help="Measure latency, memory and size, each version in its own process."),
    ] = True,
    trust: TrustOption = None,
    from_run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Take over what this run already measured of one version.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --from-run: also in the place of a report that Lepton measured.")
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Measure versions on labelled data: quality with intervals, by slice, and what they cost.

    A report for each version is kept in the registry. A version that fails gets a report that says so; the exit code
    is 1 where all failed. What stands against the data only (a missing column) leaves an earlier report in place.

    Example: lepton evaluate flights --data june.parquet --target late --task classification --slice carrier
    """
    chosen = [part.strip() for part in versions.split(",") if part.strip()] if versions is not None else None
    registry = open_registry()
    if from_run is not None:
        if chosen is None or len(chosen) != 1:
            raise InvalidInput("--from-run is about one version: name it with --versions V.")
        if data is not None:
            raise InvalidInput("--from-run takes over what was measured; it can't be combined with --data.")
        report = registry.take_over(
            name,
            chosen[0],
            from_run,
            task=task.value if task else None,
            target=target or "",
            dataset_name=dataset,
            force=force,
        )
        _show_reports([report], output)
        _tell_notes([report])
        return
    if data is None or target is None or task is None:
        missing = [
            option for option, value in (("--data", data), ("--target", target), ("--task", task)) if value is None
        ]
        raise InvalidInput(f"evaluate needs {' and '.join(missing)}.")
    from lepton_plugins.cli.progress import evaluation_progress
    from lepton_plugins.evaluation.options import EvaluationOptions

    options = EvaluationOptions(
        cost=cost,
        evaluators=("evidently",) if html else (),
        trust="pickle" if trust else None,
        dataset_name=dataset,
        group=group,
        positive=positive,
    )
    with evaluation_progress() as progress:
        reports = registry.evaluate(
            name,
            data,
            target=target,
            task=task.value,
            versions=chosen,
            slices=slices or [],
            context=context or [],
            options=options,
            progress=progress,
        )
    _show_reports(reports, output)
    for report in reports:
        if report.failure is not None:
            terminal.warn(f"version {report.version} failed to {report.failure.stage}: {report.failure.reason}")
        elif html:
            terminal.note(f"version {report.version}: evidently.html is among the files of run {report.run_id}")
    _tell_notes(reports)
    if slices:
        terminal.note(f"By slice: lepton compare {name} --slice {slices[0]}")
    if reports and not any(report.ok for report in reports):
        raise typer.Exit(1)


def _show_reports(reports: Sequence[EvaluationReport], output: Output) -> None:
    from lepton_plugins.listings import reports_listing

    listing = reports_listing(reports)
    show(reports, lambda: listing_table(listing), output)


def _tell_notes(reports: Sequence[EvaluationReport]) -> None:
    """What the reports note, each once for all versions that it holds for; a warning where one wasn't stored."""
    holders: dict[str, list[str]] = {}
    for report in reports:
        for note in report.notes:
            # The registry's own words name the version, which is named here.
            holders.setdefault(note.replace(f"version {report.version} of ", ""), []).append(report.version)
    for note, versions in holders.items():
        who = f"version{'s' if len(versions) > 1 else ''} {', '.join(versions)}"
        tell = terminal.warn if note.startswith("not stored") else terminal.note
        tell(f"{'all versions' if len(versions) == len(reports) > 1 else who}: {note}")


def compare(
    name: Model,
    metric: Annotated[str | None, typer.Option(metavar="M", help="One metric only (default: all).")] = None,
    by: Annotated[str | None, typer.Option("--slice", metavar="COL", help="Compare by this slice.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as a picture, too (PNG).")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Put the versions side by side; the best is marked, and ties are shown as ties.

    A tie is a paired difference whose confidence interval covers zero.

    Example: lepton compare flights --slice carrier --picture carriers.png
    """
    comparison = open_registry().compare(name, metric=metric, by=by)
    if picture is not None:
        from lepton_plugins.evaluation.chart import comparison_png

        comparison_png(comparison, picture)
        terminal.note(f"Wrote {picture}")
    show(comparison, comparison.table, output)
