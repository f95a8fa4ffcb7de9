"""Commands that ask the router: explain, predict, feedback."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lepton_plugins.cli.deploying import Source
from lepton_plugins.cli.opening import deployment
from lepton_plugins.cli.output import Output, OutputOption, show
from lepton_plugins.cli.terminal import terminal
from lepton_plugins.errors import InvalidInput

_PANEL = "Routing"


def add_to(app: typer.Typer) -> None:
    for command in (explain, predict, feedback):
        app.command(rich_help_panel=_PANEL)(command)


def explain(
    source: Source,
    data: Annotated[Path, typer.Option(metavar="FILE", help="One row as a JSON object; - reads stdin.")],
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The unit's sticky key (default: from the row).")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Tell which version would answer a row, and why each other one wouldn't.

    Example: lepton explain flights --data row.json
    """
    from lepton_plugins.cli.rows import read_row
    from lepton_plugins.routing.router import Router

    row = read_row(data)
    with deployment(source) as directory, closing(Router.load(directory)) as router:
        explanation = router.explain(row, key=key)
    show(explanation, explanation.table, output)


def predict(
    source: Source,
    data: Annotated[Path, typer.Option(metavar="FILE", help="The rows: parquet, csv or jsonl.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="Where the answers go: parquet, csv or jsonl.")],
    decisions: Annotated[bool, typer.Option("--decisions", help="Add how each row was decided.")] = False,
    version: Annotated[str | None, typer.Option(metavar="V", help="Let this version answer all rows.")] = None,
    log: Annotated[str | None, typer.Option(metavar="URI", help="Keep the decisions here, for feedback.")] = None,
    output: OutputOption = Output.table,
) -> None:
    """Answer a file's rows, each by the version that the plan chooses for it.

    Columns that no version takes are left out.

    Example: lepton predict flights --data july.parquet --to answers.parquet --decisions
    """
    from lepton_plugins.cli.rows import answers_frame, check_writable, write_table
    from lepton_plugins.evaluation.table import read_table
    from lepton_plugins.routing.router import Router
    from lepton_plugins.routing.store import open_log

    check_writable(to)
    frame = read_table(data)
    opened = open_log(log) if log is not None else None
    with deployment(source) as directory, closing(Router.load(directory, log=opened)) as router:
        if router.signature.layout == "columns":
            unused = [name for name in frame.columns if name not in router.signature.input_names]
            if unused:
                terminal.note(f"Not used: {', '.join(map(str, unused))}")
                frame = frame.drop(columns=unused)
        prediction = router.predict(frame, version=version)
        answers = answers_frame(prediction, router.plan, decisions=decisions)
    write_table(answers, to)
    counts = answers["version"].value_counts()
    parts = {str(name): int(counts[name]) for name in sorted(counts.index)}
    told = ", ".join(f"version {name}: {count:,}" for name, count in parts.items())
    result = {"to": str(to), "rows": len(answers), "served": parts}
    empty = f"{data} has no rows: {to} is written without any"
    show(result, lambda: f"{len(answers):,} rows → {to} ({told})" if len(answers) else empty, output)


def feedback(
    to: Annotated[str, typer.Argument(metavar="URL|LOG", help="A running server, or where decisions are kept.")],
    decision: Annotated[str | None, typer.Argument(metavar="[DECISION]", help="The decision's id.")] = None,
    reward: Annotated[float | None, typer.Option(help="How good it was.")] = None,
    label: Annotated[str | None, typer.Option(help="The truth.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A table with the columns decision and reward or label.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Tell what became of decisions: a reward, or the true label.

    A server's decisions are named by its header x-lepton-decision. A server that wants a token takes
    it from LEPTON_TOKEN.

    Example: lepton feedback http://localhost:8000 0f3c2a/0 --reward 1
    """
    from lepton_plugins.cli.feedback_items import feedback_items, send

    if (decision is None) == (data is None):
        raise InvalidInput("feedback takes either a DECISION or --data FILE.")
    items = feedback_items(decision, reward, label, data)
    receipt = send(to, items)
    for unknown in receipt["unknown"][:5]:
        terminal.warn(f"no such decision: {unknown}")
    told = f"{receipt['stored']} stored, {receipt['duplicates']} duplicates, {len(receipt['unknown'])} unknown"
    show(receipt, lambda: told, output)
    if receipt["unknown"]:
        raise typer.Exit(1)
