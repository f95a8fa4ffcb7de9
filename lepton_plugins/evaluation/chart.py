"""Pictures of a report and of a comparison: values with their intervals, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lepton_plugins.evaluation.comparison import Comparison, ComparisonRow
from lepton_plugins.evaluation.row_metrics import default_metric
from lepton_plugins.records.report import Estimate, EvaluationReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: More slices than this are unreadable; the largest are shown.
_MOST_ROWS = 24

_INK, _GREY, _LINE = "#1f2933", "#7b8794", "#d9dee3"
#: Okabe and Ito's colours, which colour-blind people can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#000000")
_MARKERS = "osD^vPX*"

#: What a report's picture shows, first the metric that versions are compared by.
_PANELS = {
    "classification": ("log_loss", "roc_auc", "accuracy", "f1"),
    "regression": ("rmse", "mae", "r2"),
    "ranking": ("ndcg@10", "mrr", "recall@10"),
}
_NAMES = {
    "log_loss": "log loss",
    "roc_auc": "ROC AUC",
    "rmse": "RMSE",
    "mae": "MAE",
    "mse": "MSE",
    "r2": "R²",
    "f1": "F1",
    "ndcg@10": "NDCG@10",
    "mrr": "MRR",
}


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a panel: its name, and one estimate for each version."""

    name: str
    estimates: Sequence[Estimate | None]
    best: int | None = None


def report_png(report: EvaluationReport, path: Path) -> Path:
    """One version's main metrics, overall and by slice, with intervals."""
    names = [n for n in _PANELS[report.task] if n in report.metrics and report.metrics[n].value is not None][:2]
    if not names:
        usual = default_metric(report.task)
        names = [usual] if usual in report.metrics else list(report.metrics)[:1]
    slices = _largest([(slice_.n, slice_) for slice_ in report.slices])
    panels = []
    for name in names:
        lines = [_Line(f"all rows  (n={report.dataset.rows:,})", [report.metrics[name]])]
        for slice_ in slices:
            lines.append(_Line(_slice_name(slice_.by, slice_.value, slice_.n), [slice_.metrics.get(name)]))
        panels.append((name, report.metrics[name].greater_is_better, lines))
    version = f"version {report.version}" + (f" ({report.label})" if report.label else "")
    left = len(report.slices) - len(slices)
    level = next(iter(report.metrics.values())).level
    foot = f"Dots: measured. Bars: {level:.0%} confidence intervals." + (
        f" {left} smaller slices not shown." if left else ""
    )
    return _draw(f"{report.model}, {version} on {report.dataset.name}", panels, [], foot, path)


def comparison_png(comparison: Comparison, path: Path) -> Path:
    """The versions' values of the compared metric, overall and by slice; filled dots are the best of a line.

    Beside it the differences to the best, paired: those that cover zero are ties.
    """
    rows = [comparison.headline, *_largest([(row.n, row) for row in comparison.slices])]
    lines = [
        _Line(
            _slice_name(row.by, row.value, row.n),
            [entry.estimate for entry in row.entries],
            next((i for i, entry in enumerate(row.entries) if entry.verdict == "best"), None),
        )
        for row in rows
    ]
    differences = [_Line("", [entry.difference for entry in row.entries], _best_of(row)) for row in rows]
    panels = [(comparison.metric, comparison.headline.greater_is_better, lines)]
    if len(comparison.versions) > 1:
        panels.append(
            (f"{comparison.metric}: difference to the best", comparison.headline.greater_is_better, differences)
        )
    left = len(comparison.slices) + 1 - len(rows)
    foot = (
        f"Bars: {comparison.level:.0%} confidence intervals, differences paired. Filled: best of its line, or "
        f"a tie with it (interval covers zero)." + (f" {left} smaller slices not shown." if left else "")
    )
    ties = [[entry.verdict in ("best", "tie") for entry in row.entries] for row in rows]
    title = f"{comparison.model} on {comparison.dataset.name}"
    return _draw(title, panels, [version.name for version in comparison.versions], foot, path, ties)


def _best_of(row: ComparisonRow) -> int | None:
    return next((i for i, entry in enumerate(row.entries) if entry.verdict == "best"), None)


def _largest(sized: Sequence[tuple[int, Any]]) -> list[Any]:
    """The slices with most rows, in their given order."""
    order = sorted(range(len(sized)), key=lambda i: -sized[i][0])[:_MOST_ROWS]
    return [sized[i][1] for i in sorted(order)]


def _slice_name(by: Sequence[str], value: Sequence[str], n: int) -> str:
    name = ", ".join(f"{column} {_short(text)}" for column, text in zip(by, value, strict=True)) or "all rows"
    return f"{name}  (n={n:,})"


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:23]}…"


def _draw(
    title: str,
    panels: Sequence[tuple[str, bool, Sequence[_Line]]],
    versions: Sequence[str],
    foot: str,
    path: Path,
    filled: Sequence[Sequence[bool]] | None = None,
) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = panels[0][2]
    each = max(0.34, 0.17 * max(1, len(lines[0].estimates)))
    height = 1.5 + each * len(lines) + (0.35 if versions else 0)
    figure = Figure(figsize=(4.6 + 3.4 * len(panels), height), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", h_pad=0.09)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, up, shown) in zip(axes, panels, strict=True):
        _panel(axis, name, up, shown, filled)
    axes[0].set_yticks(range(len(lines)), [line.name for line in lines])
    axes[0].set_ylim(len(lines) - 0.5, -0.5)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=_INK, fontweight="bold")
    if versions:
        handles = axes[0].get_legend_handles_labels()[0]
        figure.legend(
            handles,
            [f"version {name}" for name in versions],
            loc="outside upper right",
            ncols=4,
            frameon=False,
            fontsize=9,
        )
    figure.supxlabel(foot, x=0.01, ha="left", fontsize=8, color=_GREY)
    figure.savefig(path, metadata={"Software": "lepton-plugins"})
    return path


def _panel(axis: Axes, name: str, up: bool, lines: Sequence[_Line], filled: Sequence[Sequence[bool]] | None) -> None:
    metric, _, rest = name.partition(":")
    better = "higher is better" if up else "lower is better"
    axis.set_xlabel(f"{_NAMES.get(metric, metric)}{rest and ' –' + rest}  ({better})", fontsize=9, color=_INK)
    versions = len(lines[0].estimates)
    spread = 0.0 if versions == 1 else 0.62 / (versions - 1)
    for version in range(versions):
        colour, marker = _COLOURS[version % len(_COLOURS)], _MARKERS[version % len(_MARKERS)]
        axis.plot([], [], marker, color=colour, label=str(version), markersize=5)
        for y, line in enumerate(lines):
            place = y + (version - (versions - 1) / 2) * spread
            full = filled is None or filled[y][version]
            _estimate(axis, line.estimates[version], place, colour, marker, full)
            if rest and line.best == version:
                axis.plot([0], [place], marker, color=colour, markersize=5)
    if rest:
        axis.axvline(0, color=_INK, linewidth=0.8, zorder=0)
    elif lines[0].estimates and versions == 1 and lines[0].estimates[0] is not None:
        value = lines[0].estimates[0].value
        if value is not None:
            axis.axvline(value, color=_GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    for y in range(len(lines)):
        if y % 2 == 0:
            axis.axhspan(y - 0.5, y + 0.5, color="#f5f7f9", zorder=-2, linewidth=0)
    if len(lines) > 1:
        axis.axhline(0.5, color=_LINE, linewidth=1.2, zorder=-1)
    axis.tick_params(labelsize=8.5, colors=_INK, length=0)
    axis.grid(axis="x", color=_LINE, linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(_LINE)
    _limits(axis, lines, bool(rest))


def _estimate(axis: Axes, estimate: Estimate | None, y: float, colour: str, marker: str, full: bool) -> None:
    if estimate is None or estimate.value is None:
        return
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    axis.plot([low, high], [y, y], color=colour, linewidth=1.6, alpha=0.75, solid_capstyle="butt")
    axis.plot([estimate.value], [y], marker, color=colour, markersize=5, markerfacecolor=colour if full else "white")


def _limits(axis: Axes, lines: Sequence[_Line], zero: bool) -> None:
    """Wide intervals of tiny slices must not squeeze everything else: they run out of the picture."""
    values = [e.value for line in lines for e in line.estimates if e is not None and e.value is not None]
    values += [0.0] if zero else []
    ends = [
        end
        for line in lines
        for e in line.estimates
        if e is not None and e.value is not None
        for end in (e.low, e.high)
        if end is not None
    ]
    if not values:
        return
    low, high = min(values), max(values)
    room = max((high - low) * 0.6, abs(high) * 0.02, 1e-6)
    left, right = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    margin = max((right - left) * 0.04, 1e-9)
    axis.set_xlim(left - margin, right + margin)
