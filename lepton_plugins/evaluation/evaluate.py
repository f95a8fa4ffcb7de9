"""Evaluating versions: each is fetched and loaded once, measured, and gets a report, also when it fails."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lepton_plugins.errors import ColumnMissing, InvalidInput
from lepton_plugins.evaluation.candidate import Candidate, prepare
from lepton_plugins.evaluation.dataset import read_evaluation_data
from lepton_plugins.evaluation.options import EvaluationOptions
from lepton_plugins.evaluation.predictions import check_columns
from lepton_plugins.evaluation.progress import Progress, Silent
from lepton_plugins.evaluation.slices import slice_frame
from lepton_plugins.evaluation.take_over import take_over
from lepton_plugins.evaluation.trial import Setting, Trial
from lepton_plugins.plugins import plugins
from lepton_plugins.records.report import EvaluationReport, Task
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EvaluationOptions", "evaluate", "take_over"]


def evaluate(
    registry: Registry,
    model: str,
    data: pd.DataFrame | Path | str,
    *,
    target: str,
    task: Task,
    versions: Sequence[str] | None = None,
    slices: Sequence[str] = (),
    context: Sequence[str] = (),
    options: EvaluationOptions | None = None,
    progress: Progress | None = None,
) -> list[EvaluationReport]:
    """Evaluate versions of a model (all, or those named by number or label) and store their reports.

    `slices` are columns ("carrier"), crossings ("carrier,origin") or quantile bins ("distance:4");
    `context` are further columns to keep beside the predictions, for policies. Data that can't be
    evaluated raises before any model is loaded; a version that fails gets a report that says so.
    """
    options = options or EvaluationOptions()
    chosen = _chosen(registry, model, versions)
    setting = make_setting(
        registry, data, target=target, task=task, slices=slices, context=context, options=options, progress=progress
    )
    setting.progress.begin(chosen, setting.data.rows)
    return _run(setting, chosen)


def make_setting(
    registry: Registry,
    data: pd.DataFrame | Path | str,
    *,
    target: str,
    task: Task,
    slices: Sequence[str] = (),
    context: Sequence[str] = (),
    options: EvaluationOptions,
    progress: Progress | None = None,
) -> Setting:
    """Read and check the data, cut it into slices, load the evaluators: all that needs no version."""
    import pandas as pd

    read = read_evaluation_data(
        data, target=target, task=task, name=options.dataset_name, group=options.group, positive=options.positive
    )
    for name in context:
        if name not in read.frame.columns:
            raise ColumnMissing(name, "context", read.frame.columns)
    sliced = slice_frame(read.frame, slices)
    kept = list(dict.fromkeys([*(name for by in sliced for name in by), *context]))
    check_columns(kept, read.classes)
    return Setting(
        registry=registry,
        data=read,
        slices=sliced,
        slicings=slices,
        kept=read.frame[kept],
        roles={target, *([options.group] if options.group else []), *context},
        options=options,
        evaluators={name: plugins().load("evaluator", name)() for name in options.evaluators},
        progress=progress or Silent(),
        groups=None if read.groups is None else pd.factorize(read.groups)[0],
    )


def _chosen(registry: Registry, model: str, versions: Sequence[str] | None) -> list[ModelVersion]:
    if versions is not None:
        named = [registry.get_version(model, version) for version in versions]
        return list({version.version: version for version in named}.values())
    found = registry.list_versions(model)
    if not found:
        raise InvalidInput(f"Model {model!r} has no versions to evaluate. Run: lepton register {model} PATH")
    return found


def _run(setting: Setting, chosen: Sequence[ModelVersion]) -> list[EvaluationReport]:
    """One version after the other; the next one's files are fetched before this one is scored and stored.

    So the next one is loaded, in its own process, beside the scoring and storing, never beside a
    measurement of time.
    """
    reports: list[EvaluationReport] = []
    with tempfile.TemporaryDirectory(prefix="lepton-") as folder, ExitStack() as stack:
        root = Path(folder)

        def fetch(index: int) -> Candidate | None:
            if index >= len(chosen):
                return None
            version = chosen[index]
            setting.progress.stage(version, "fetch")
            candidate = prepare(
                setting.registry,
                version,
                root / str(index) / "model",
                setting.data,
                setting.options,
                setting.roles,
                set(setting.kept.columns),
            )
            stack.callback(candidate.close)
            return candidate

        candidate = fetch(0)
        for index in range(len(chosen)):
            assert candidate is not None
            trial = Trial(setting, candidate, root / str(index) / "report")
            trial.predict()
            trial.cost()
            candidate = fetch(index + 1)
            trial.score()
            trial.write()
            report = trial.store()
            trial.candidate.close()
            reports.append(report)
            setting.progress.finish(trial.candidate.version, report)
    return reports
