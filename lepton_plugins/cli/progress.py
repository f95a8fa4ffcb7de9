"""Progress bars on stderr: one line a version; nothing where stderr isn't a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lepton_plugins.cli.terminal import terminal

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from lepton_plugins.evaluation.progress import Stage
    from lepton_plugins.records.report import EvaluationReport
    from lepton_plugins.records.version import ModelVersion

_DOING = {
    "fetch": "fetching",
    "load": "loading",
    "predict": "predicting",
    "score": "scoring",
    "cost": "timing",
    "save": "saving",
}


class EvaluationBars:
    """What an evaluation tells, as one bar a version."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}

    def begin(self, versions: Sequence[ModelVersion], rows: int) -> None:
        terminal.note(f"{len(versions)} version{'' if len(versions) == 1 else 's'} on {rows:,} rows")
        for version in versions:
            name = f"version {version.version}" + (f" ({version.label})" if version.label else "")
            self.tasks[version.version] = self.bars.add_task(name, total=1, stage="waiting", start=False)

    def stage(self, version: ModelVersion, stage: Stage, total: int = 0) -> None:
        self.bars.start_task(self.tasks[version.version])
        self.bars.update(self.tasks[version.version], stage=_DOING[stage], completed=0, total=total or None)

    def advance(self, version: ModelVersion, done: int) -> None:
        self.bars.update(self.tasks[version.version], completed=done)

    def finish(self, version: ModelVersion, report: EvaluationReport) -> None:
        stage = "done" if report.ok else "failed"
        self.bars.update(self.tasks[version.version], stage=stage, completed=1, total=1)


@contextmanager
def evaluation_progress() -> Iterator[EvaluationBars]:
    """Bars for an evaluation, gone when it is done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[stage]}"), TimeElapsedColumn())
    with Progress(*columns, console=terminal.stderr, transient=True) as bars:
        yield EvaluationBars(bars)
