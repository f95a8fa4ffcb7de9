"""The result as tables on stdout, for 80 columns."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from lepton_plugins.quickstart.result import PeriodResult, QuickstartResult
from lepton_plugins.quickstart.workspace import Workspace
from lepton_plugins.records.report import Estimate

if TYPE_CHECKING:
    from rich.table import Table


def show(result: QuickstartResult, workspace: Workspace) -> None:
    """The tables, the verdicts and where to look further, on stdout."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    for period in result.periods:
        console.print(result_table(period))
        for sentence in period.verdict:
            console.print(sentence, markup=False)
        console.print()
    for line in (result.promise, result.advice):
        if line is not None:
            console.print(line, markup=False)
    console.print()
    console.print("[dim]Below each figure its 95 % interval; differences are paired, flight by flight.[/dim]")
    for version in result.periods[0].singles:
        console.print(f"[dim]{version.name}: {version.summary}[/dim]")
    console.print()
    for what, where in _where_to_look(workspace):
        console.print(f"{what:<24}{where}", markup=False, soft_wrap=True)


def _where_to_look(workspace: Workspace) -> list[tuple[str, str]]:
    def path(of: Path) -> str:
        # Relative where it lies below the current directory.
        return quote(str(of.relative_to(Path.cwd()) if of.is_relative_to(Path.cwd()) else of))

    uri = quote(workspace.registry_uri)
    return [
        ("MLflow's UI", f"mlflow ui --backend-store-uri {uri}"),
        ("the versions by carrier", f"lepton compare flights --slice carrier --registry {uri}"),
        ("the same as a picture", path(workspace.chart)),
        ("why a flight goes where", f"lepton explain flights --data {path(workspace.row_file)} --registry {uri}"),
        ("serve it yourself", f"lepton serve {path(workspace.deployment)} --port 8000"),
        ("all figures", path(workspace.result_file)),
    ]


def result_table(result: PeriodResult) -> Table:
    """One period: routed first, then each version alone; intervals below their values. Fits 80 columns."""
    from rich import box
    from rich.table import Table

    title = f"{result.period}: {result.flights:,} flights, {result.late:.1%} late"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("answered by", no_wrap=True)
    for heading in ("log loss", "AUC within\ncarriers", "log loss saved\nby routing", "p50, one\nflight"):
        table.add_column(heading, justify="right", no_wrap=True)
    for contender in (result.routed, *result.singles):
        who = "[bold]the plan[/bold]" if contender is result.routed else f"{contender.name} alone"
        share = "routed by carrier" if contender is result.routed else f"{contender.share:.0%} of routed"
        table.add_row(
            f"{who}\n[dim]{share}[/dim]",
            _estimate(contender.log_loss, "{:.4f}"),
            _estimate(contender.auc, "{:.3f}"),
            _estimate(contender.loss_saved, "{:+.4f}"),
            f"{contender.p50_ms:.2f} ms",
        )
    return table


def _estimate(estimate: Estimate | None, form: str) -> str:
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    to = " … " if "+" in form else "–"
    return f"{form.format(estimate.value)}\n[dim]{form.format(estimate.low)}{to}{form.format(estimate.high)}[/dim]"
