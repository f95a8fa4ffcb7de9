"""The result as tables on stdout, for 80 columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lepton_plugins.quickstart.comparison import Contender, PeriodResult
from lepton_plugins.quickstart.workspace import Workspace
from lepton_plugins.records.report import Estimate

if TYPE_CHECKING:
    from rich.table import Table

    from lepton_plugins.quickstart.run import QuickstartResult


def show(result: QuickstartResult, workspace: Workspace) -> None:
    """The tables, the verdicts and where to look further, on stdout."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    for period in result.periods:
        console.print(result_table(period))
        console.print(period.verdict, markup=False)
        console.print()
    console.print(
        "[dim]Each version alone answered the same flights; brackets are 95 % intervals, paired for differences.[/dim]"
    )
    for version in result.periods[0].singles:
        console.print(f"[dim]{version.name}: {version.summary}[/dim]")
    console.print()
    for what, where in _where_to_look(workspace):
        console.print(f"{what:<24}{where}", markup=False, soft_wrap=True)


def _where_to_look(workspace: Workspace) -> list[tuple[str, str]]:
    root = _short(workspace.root)
    registry = f"--registry sqlite:///{root / 'mlflow.db'}"
    return [
        ("MLflow's UI", f"mlflow ui --backend-store-uri sqlite:///{root / 'mlflow.db'}"),
        ("versions by carrier", f"lepton compare flights --slice carrier {registry}"),
        ("the same as a picture", str(root / workspace.chart.name)),
        ("why a flight goes where", f"lepton explain flights --data {root / workspace.row_file.name} {registry}"),
        ("serve it yourself", f"lepton serve {root / workspace.deployment.name} --port 8000"),
        ("all figures", str(root / workspace.result_file.name)),
    ]


def _short(path: Path) -> Path:
    """Relative to the current directory where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def result_table(result: PeriodResult) -> Table:
    """One period: routed first, then each version alone; intervals below their values."""
    from rich import box
    from rich.table import Table

    title = f"{result.period}: {result.flights:,} flights, {result.late:.1%} late"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("answered by")
    for heading in (
        "log loss",
        "AUC within\ncarriers",
        "log loss saved\nby routing",
        "AUC gained\nby routing",
        "one flight\np50",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for contender in (result.routed, *result.singles):
        table.add_row(
            _who(contender, contender is result.routed),
            _estimate(contender.log_loss),
            _estimate(contender.auc, digits=3),
            _estimate(contender.loss_saved, signed=True),
            _estimate(contender.auc_gained, digits=3, signed=True),
            f"{contender.p50_ms:.2f} ms",
        )
    return table


def _who(contender: Contender, routed: bool) -> str:
    if routed:
        return "routed by the plan"
    return f"{contender.name} alone\n[dim]{contender.share:.0%} of routed[/dim]"


def _estimate(estimate: Estimate | None, *, digits: int = 4, signed: bool = False) -> str:
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    form = f"{{:{'+' if signed else ''}.{digits}f}}"
    low, high = form.format(estimate.low), form.format(estimate.high)
    return f"{form.format(estimate.value)}\n[dim]{low} … {high}[/dim]"
