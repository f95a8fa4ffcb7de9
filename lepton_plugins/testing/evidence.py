"""Evidence to plan a policy from: versions that differ in truth, by what the context says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.records.report import Dataset
from lepton_plugins.routing.policy import column_of


def rows_of(columns: Mapping[str, Sequence[Any]], rows: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Columns of shape (rows,), each drawn evenly from its values, with the dtypes that a table's have."""
    generator = np.random.default_rng(seed)
    return {
        name: column_from([values[index] for index in generator.integers(len(values), size=rows)])
        for name, values in columns.items()
    }


def column_from(values: Sequence[Any]) -> NDArray[Any]:
    """An array (rows,) of values; text and mixed values as objects, as a table's column has them."""
    if values and all(column_of(value).dtype != object for value in values):
        return np.asarray(values)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def paired_predictions(
    columns: Mapping[str, Sequence[Any]], versions: Sequence[str] = ("1", "2", "3"), rows: int = 3000, seed: int = 0
) -> PairedPredictions:
    """Binary predictions of several versions on the same rows, scored by log loss; the first is the default.

    Each combination of the columns' values is one version's home, where it knows more than the others. So
    a policy that looks at the context has something to find, in every segment.
    """
    generator = np.random.default_rng(seed)
    table = rows_of(columns, rows, seed)
    target = generator.integers(2, size=rows)
    cells = np.zeros(rows, dtype=np.intp)
    for column in table.values():
        values, codes = np.unique(column.astype(str), return_inverse=True)
        cells = cells * len(values) + codes
    home = cells % len(versions)
    outputs, losses = [], []
    for index in range(len(versions)):
        knowledge = np.where(home == index, 1.5, 0.3)
        logits = knowledge * (2 * target - 1) + generator.normal(size=rows)
        positive = np.clip(1 / (1 + np.exp(-logits)), 1e-6, 1 - 1e-6)
        outputs.append(np.stack([1 - positive, positive], axis=1))
        losses.append(-np.log(np.where(target == 1, positive, 1 - positive)))
    values = np.stack(losses, axis=1)
    share = float(target.mean())
    baseline = float(-(share * np.log(share) + (1 - share) * np.log(1 - share)))
    return PairedPredictions(
        dataset=Dataset(name="contract", digest="sha256:" + "0" * 64, rows=rows),
        task="classification",
        metric="log_loss",
        greater_is_better=False,
        baseline=baseline,
        versions=tuple(versions),
        default=0,
        values=values,
        utility=1 - values / (2 * baseline),
        target=target,
        outputs=outputs,
        columns=table,
        seed=seed,
        classes=("0", "1"),
        costs=np.array([1e-5 * (index + 1) for index in range(len(versions))]),
    )
