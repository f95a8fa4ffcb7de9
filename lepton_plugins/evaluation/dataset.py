"""The rows that versions are evaluated on: read, checked and digested once, before any model is loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import ColumnMissing, DataEmpty, InvalidInput, OneClassOnly, TargetInvalid, nearest
from lepton_plugins.evaluation.table import read_table, table_name
from lepton_plugins.records.report import Dataset, Task
from lepton_plugins.routing.outputs import class_names

if TYPE_CHECKING:
    import pandas as pd

#: More classes than this are a regression target that was called classification.
_MOST_CLASSES = 1000


@dataclass(slots=True)
class EvaluationData:
    """Labelled rows. `row_id` (n,) is each row's position in the data as given.

    `target` (n,): class names (object) for classification, float64 for regression and ranking. `classes`
    are sorted as their values are (the positive class last, if one was named). `groups` (n,) holds the
    unit of each row (the user of a ranking), as given.
    """

    dataset: Dataset
    task: Task
    target_column: str
    frame: pd.DataFrame
    row_id: NDArray[np.int64]
    target: NDArray[Any]
    classes: tuple[str, ...] = ()
    groups: NDArray[Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.frame)


def read_evaluation_data(
    source: pd.DataFrame | Path | str,
    *,
    target: str,
    task: Task,
    name: str | None = None,
    group: str | None = None,
    positive: str | None = None,
) -> EvaluationData:
    """Read the data and check it for the task.

    Rows without target (or, in a ranking, without group) are dropped; a note counts them. Raises
    PathMissing, DataUnreadable, DataEmpty, ColumnMissing, OneClassOnly or TargetInvalid.
    """
    check_task(task)
    frame = read_table(source)
    name = name or table_name(source)
    if frame.empty and not len(frame.columns):
        raise DataEmpty(name, "it has no rows and no columns")
    if target not in frame.columns:
        raise ColumnMissing(target, "target", frame.columns)
    if task == "ranking" and group is None:
        raise InvalidInput(
            "A ranking is scored by unit: name the column of users (or queries) with --group COL "
            "(in Python: options=EvaluationOptions(group=COL))."
        )
    if group is not None and group not in frame.columns:
        raise ColumnMissing(group, "group", frame.columns)
    if frame.empty:
        raise DataEmpty(name, "it has columns but no rows")

    notes = []
    keep = frame[target].notna().to_numpy()
    if dropped := int((~keep).sum()):
        notes.append(f"{dropped} of {len(frame)} rows have no target and were left out")
    if group is not None:
        grouped = frame[group].notna().to_numpy()
        if lacking := int((keep & ~grouped).sum()):
            notes.append(f"{lacking} of {len(frame)} rows have no {group!r} and were left out")
        keep &= grouped
    if not keep.any():
        raise DataEmpty(name, f"all {len(frame)} rows lack a value in {target!r}")
    row_id = np.flatnonzero(keep).astype(np.int64)
    kept = frame if keep.all() else frame.loc[keep]
    kept = kept.reset_index(drop=True)

    classes: tuple[str, ...] = ()
    if task == "classification":
        values, classes = _class_target(kept[target], target, positive)
    else:
        values = _number_target(kept[target], target, task)
    dataset = Dataset(name=name, digest=digest_frame(kept, (target, group)), rows=len(kept))
    return EvaluationData(
        dataset=dataset,
        task=task,
        target_column=target,
        frame=kept,
        row_id=row_id,
        target=values,
        classes=classes,
        groups=None if group is None else kept[group].to_numpy(),
        notes=notes,
    )


def check_task(task: str) -> None:
    """InvalidInput with the nearest name where there is no such task."""
    if task not in get_args(Task):
        raise InvalidInput(f"There is no task {task!r}.{nearest(task, get_args(Task))}")


def _class_target(series: pd.Series[Any], column: str, positive: str | None) -> tuple[NDArray[Any], tuple[str, ...]]:
    import pandas as pd

    values = series.astype(series.cat.categories.dtype) if isinstance(series.dtype, pd.CategoricalDtype) else series
    codes, distinct = pd.factorize(values)
    found = [value.item() if isinstance(value, np.generic) else value for value in distinct]
    fractions = [v for v in found if isinstance(v, float) and not v.is_integer()]
    if fractions:
        raise TargetInvalid(column, "classification", f"decimal numbers such as {fractions[0]:g}", "classes")
    if len(found) > _MOST_CLASSES:
        raise TargetInvalid(column, "classification", f"{len(found)} distinct values", f"at most {_MOST_CLASSES}")
    names = class_names(found)
    try:
        order = sorted(range(len(found)), key=lambda i: found[i])
    except TypeError:  # Numbers and text in one column.
        order = sorted(range(len(found)), key=lambda i: names[i])
    classes = list(dict.fromkeys(names[i] for i in order))
    if positive is not None:
        if positive not in classes:
            raise InvalidInput(f"The positive class {positive!r} isn't in {column!r}: found {', '.join(classes[:12])}.")
        classes = [name for name in classes if name != positive] + [positive]
    if len(classes) < 2:
        raise OneClassOnly(column, classes[0], len(series))
    return np.array(names, dtype=object)[codes], tuple(classes)


def _number_target(series: pd.Series[Any], column: str, task: Task) -> NDArray[np.float64]:
    try:
        values = series.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise TargetInvalid(column, task, f"values such as {str(series.iloc[0])!r}", "numbers") from None
    if not np.isfinite(values).all():
        raise TargetInvalid(column, task, f"{int((~np.isfinite(values)).sum())} infinite values", "finite numbers")
    if task == "ranking" and (values < 0).any():
        raise TargetInvalid(column, task, f"values down to {values.min():g}", "relevance of 0 and more")
    return values


def digest_frame(frame: pd.DataFrame, roles: tuple[str | None, ...] = ()) -> str:
    """`sha256:<hex>` of a table's content: column names, kinds and values, whatever file it came from.

    The order of the columns and the width of numbers (int32, int64) don't matter, the order of the rows
    does. `roles` (the target and group columns) are part of it: reports of the same digest speak of the
    same rows and the same question.
    """
    total = hashlib.sha256(json.dumps([len(frame), *roles]).encode())
    for name in sorted(frame.columns):
        kind, parts = _column_bytes(frame[name])
        total.update(json.dumps([name, kind, [len(part) for part in parts]]).encode())
        for part in parts:
            total.update(part)
    return "sha256:" + total.hexdigest()


def _column_bytes(series: pd.Series[Any]) -> tuple[str, list[bytes]]:
    import pandas as pd

    kind = series.dtype.kind
    missing = series.isna().to_numpy()
    if kind == "b" or kind in "iu":
        numbers = series.fillna(0).to_numpy(dtype="uint64" if kind == "u" else "int64")
        return ("bool" if kind == "b" else "int"), [numbers.astype("<i8").tobytes(), missing.tobytes()]
    if kind == "f":
        floats = series.to_numpy(dtype=np.float64, na_value=np.nan)
        # -0.0 and NaNs of different bits are the same value.
        return "float", [np.where(np.isnan(floats), 0.0, floats + 0.0).astype("<f8").tobytes(), missing.tobytes()]
    if kind == "M":
        stamps = pd.to_datetime(series, utc=True).to_numpy().astype("datetime64[ns]").view("<i8")
        return "time", [stamps.tobytes()]
    text = ["" if gone else _text(value) for value, gone in zip(series.array, missing, strict=True)]
    lengths = np.fromiter(map(len, text), dtype="<i8", count=len(text))
    return "text", [lengths.tobytes(), "".join(text).encode("utf-8", "surrogatepass"), missing.tobytes()]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return json.dumps(value, default=str, sort_keys=True)
