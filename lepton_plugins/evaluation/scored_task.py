"""The rows of a task, measured in its way: classification, regression or ranking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InvalidInput
from lepton_plugins.evaluation.classification import Classification
from lepton_plugins.evaluation.metrics import metric
from lepton_plugins.evaluation.ranked import Ranking
from lepton_plugins.evaluation.regression import Regression
from lepton_plugins.evaluation.scored import Scored
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.report import Task


def scored(
    task: Task,
    target: NDArray[Any],
    output: NDArray[Any],
    kind: OutputKind,
    classes: Sequence[str],
    extra: Iterable[str] = (),
) -> Scored:
    """The rows of a task; `extra` metrics (`ndcg@5`, `pinball@0.9`) are known beside the task's own.

    Raises InvalidInput for shapes, labels or a kind of output that don't fit the task, and UnknownMetric.
    """
    target, output = np.asarray(target), np.asarray(output)
    if target.shape[:1] != output.shape[:1]:
        raise InvalidInput(f"Found {target.shape[0]} targets and {output.shape[0]} outputs, expected as many.")
    if task == "classification":
        rows: Scored = Classification(target, output, kind, classes)
    elif task == "regression":
        rows = Regression(target, output, classes)
    else:
        rows = Ranking(target, output)
    known = {info.name for info in rows.infos}
    added = [metric(task, name, len(classes) or None) for name in extra if name not in known]
    rows.infos = (*rows.infos, *added)
    return rows
