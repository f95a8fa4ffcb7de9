"""The rows that commands read and the answers that they write."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lepton_plugins.errors import InvalidInput, PathMissing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from lepton_plugins.records.plan import DeploymentPlan
    from lepton_plugins.routing.router import Prediction

_ENDINGS = (".parquet", ".csv", ".jsonl")


def read_row(path: Path) -> dict[str, Any]:
    """One JSON object: {"carrier": "UA", "distance": 719}; `-` is stdin."""
    if str(path) != "-" and not path.is_file():
        raise PathMissing(path, "The row")
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        row = json.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path}: expected one row as a JSON object, but it isn't JSON: {error}.") from error
    if isinstance(row, list) and len(row) == 1:
        row = row[0]
    if not isinstance(row, dict):
        raise InvalidInput(
            f'{path}: found a JSON {type(row).__name__}, expected one object such as {{"carrier": "UA"}}.'
        )
    return row


def check_writable(path: Path) -> None:
    """That a table can be written there, before any work is done."""
    if path.suffix not in _ENDINGS:
        raise InvalidInput(f"--to {path}: found the ending {path.suffix!r}, expected one of {', '.join(_ENDINGS)}.")
    if not path.absolute().parent.is_dir():
        raise PathMissing(path.absolute().parent, "--to")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table by its file's ending."""
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)


def answers_frame(prediction: Prediction, plan: DeploymentPlan, *, decisions: bool) -> pd.DataFrame:
    """One line a row, in order: the answer, the version that gave it, and on request how it was decided."""
    import pandas as pd

    values, block = prediction.values, prediction.block
    columns: dict[str, Any] = {}
    if plan.output == "proba":
        for index, name in enumerate(plan.classes or range(values.shape[1])):
            columns[f"proba_{name}"] = values[:, index]
    elif values.ndim == 1:
        columns["prediction"] = values
    else:
        for index in range(values.shape[1]):
            columns[f"prediction_{index}"] = values[:, index]
    columns["version"] = [block.arms[int(arm)] for arm in block.served]
    if decisions:
        cells = [int(cell) for cell in block.cells]
        columns["decision"] = [f"{block.request}/{row}" for row in range(len(block))]
        columns["chosen"] = [block.arms[int(arm)] for arm in block.chosen]
        columns["segment"] = [block.segments[cell] for cell in cells]
        columns["propensity"] = block.vectors[block.cells, block.chosen]
        columns["reason"] = [block.reasons[cell] for cell in cells]
        columns["fallback"] = list(block.fallback) if block.fallback is not None else None
    return pd.DataFrame(columns)


def with_empty_rows(answers: pd.DataFrame, rows: NDArray[np.intp], total: int) -> pd.DataFrame:
    """A line for each of `total` rows: those of `answers` for `rows`, empty ones for the others."""
    # Whole numbers stay whole beside empty cells.
    whole = {name: "Int64" for name in answers.columns if answers[name].dtype.kind in "iu"}
    truth = {name: "boolean" for name in answers.columns if answers[name].dtype.kind == "b"}
    spread: pd.DataFrame = answers.astype({**whole, **truth}).set_axis(rows).reindex(range(total))
    return spread
