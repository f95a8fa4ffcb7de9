"""Commands that ask the router: explain, predict, feedback."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lepton_plugins.cli.deploying import Source
from lepton_plugins.cli.opening import deployment
from lepton_plugins.cli.output import Output, OutputOption, show
from lepton_plugins.cli.terminal import terminal
from lepton_plugins.errors import InvalidInput

_PANEL = "Routing"


class OnNull(StrEnum):
    """What becomes of a table of which some rows have no answer."""

    empty = "empty"
    fail = "fail"


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
    on_null: Annotated[
        OnNull | None,
        typer.Option(
            help="Where no version can answer a row with a null: empty, or fail (default: empty, and exit code 1)."
        ),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Answer a file's rows, each by the version that the plan chooses for it.

    Columns that no version takes are left out. Rows that no version can answer, because of a null, are told and stay
    in the table with an empty answer.

    Example: lepton predict flights --data july.parquet --to answers.parquet --decisions
    """
    from lepton_plugins.cli.rows import answers_frame, check_writable, with_empty_rows, write_table
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
        if on_null is OnNull.fail:
            prediction, rows, why = router.predict(frame, version=version), None, ""
        else:
            found = router.predict_answerable(frame, version=version)
            prediction, rows, why = found.prediction, found.rows, found.why
        answers = answers_frame(prediction, router.plan, decisions=decisions)
    if rows is not None and len(rows) < len(frame):
        answers = with_empty_rows(answers, rows, len(frame))
    write_table(answers, to)
    counts = answers["version"].value_counts()
    lacking = answers.index[answers["version"].isna()].tolist()
    parts = {str(name): int(counts[name]) for name in sorted(counts.index)}
    told = ", ".join(f"version {name}: {count:,}" for name, count in parts.items())
    result = {"to": str(to), "rows": len(answers), "served": parts, "unanswered": len(lacking)}
    empty = f"{data} has no rows: {to} is written without any"
    show(result, lambda: f"{len(answers):,} rows → {to} ({told})" if len(answers) else empty, output)
    if lacking:
        first = ", ".join(map(str, lacking[:5])) + (", …" if len(lacking) > 5 else "")
        terminal.warn(f"{len(lacking):,} of {len(answers):,} rows stay without an answer, for a null: {first}. {why}")
        if on_null is None:
            raise typer.Exit(1)


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
