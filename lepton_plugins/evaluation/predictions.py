"""The file of predictions that belongs to a report: one row for each evaluated row.

Columns: `row_id` int64 (position in the data as given), `target`, the predictions (`prediction`, and
`proba_<class>` where there are probabilities; `prediction_0`, `prediction_1` … where a version gives several
values), `group` where rows belong to units (users), then the slice and context columns with their raw values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import ColumnReserved
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.report import EvaluationReport

if TYPE_CHECKING:
    import pandas as pd

#: Its name among a report's files.
FILE = "predictions.parquet"

_SLICINGS = b"lepton.slicings"


@dataclass(slots=True)
class Predictions:
    """Predictions read back. `output` (n,), or (n, classes) in the order of the report's classes, or (n, k).

    `target` and a "label" output hold class names (object) in a classification. `groups` (n,) numbers
    the units that rows belong to. `columns` holds slice and context columns, missing values as None or NaN.
    """

    row_id: NDArray[np.int64]
    target: NDArray[Any]
    output: NDArray[Any]
    columns: Mapping[str, NDArray[Any]]
    groups: NDArray[np.intp] | None = None
    slicings: tuple[str, ...] = ()
    """What the report was sliced by, as it was asked for ("carrier", "distance:4")."""

    @property
    def rows(self) -> int:
        return len(self.row_id)


def predictions_frame(
    *,
    row_id: NDArray[np.int64],
    target: NDArray[Any],
    output: NDArray[Any],
    kind: OutputKind,
    classes: Sequence[str],
    groups: NDArray[Any] | None,
    columns: pd.DataFrame,
) -> pd.DataFrame:
    """The table of predictions; `columns` has the slice and context columns. ColumnReserved on a clash."""
    import pandas as pd

    table: dict[str, Any] = {"row_id": row_id, "target": _names(target, classes)}
    if kind == "proba":
        table["prediction"] = _names(np.array(classes, dtype=object)[output.argmax(axis=1)], classes)
        table |= {f"proba_{name}": output[:, index] for index, name in enumerate(classes)}
    elif output.ndim == 2:
        table |= {f"prediction_{index}": output[:, index] for index in range(output.shape[1])}
    else:
        table["prediction"] = _names(output, classes)
    if groups is not None:
        table["group"] = groups
    for name in columns.columns:
        if name in table:
            raise ColumnReserved(name)
        table[name] = columns[name].to_numpy() if columns[name].dtype.kind in "iufb" else columns[name].array
    return pd.DataFrame(table)


def check_columns(columns: Sequence[str], classes: Sequence[str]) -> None:
    """Slice and context columns that would clash in the file: told before any model is loaded."""
    taken = {"row_id", "target", "prediction", "group", *(f"proba_{name}" for name in classes)}
    for name in columns:
        if name in taken:
            raise ColumnReserved(name)


def _names(values: NDArray[Any], classes: Sequence[str]) -> Any:
    """Class names take one byte a row in the file when they are stored as categories."""
    import pandas as pd

    return pd.Categorical(values, categories=list(classes)) if classes else values


def write_predictions(frame: pd.DataFrame, to: Path, slicings: Sequence[str] = ()) -> Path:
    """Write the table to `to`/predictions.parquet, with what the rows were sliced by."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _SLICINGS: json.dumps(list(slicings))})
    path = to / FILE
    pq.write_table(table, path, compression="zstd")
    return path


def read_predictions(path: Path, report: EvaluationReport) -> Predictions:
    """The predictions that `report` is about, from its file."""
    import pandas as pd
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    frame = table.to_pandas()
    classes = report.classes
    own = {"row_id", "target"}
    if report.output == "proba":
        probabilities = [f"proba_{name}" for name in classes]
        output = frame[probabilities].to_numpy(dtype=np.float64)
        own |= {"prediction", *probabilities}
    elif "prediction" in frame:
        output = _plain(frame["prediction"])
        own.add("prediction")
    else:
        several = [name for name in frame.columns if name.startswith("prediction_")]
        output = frame[several].to_numpy(dtype=np.float64)
        own |= set(several)
    groups = None
    if "group" in frame:
        groups = pd.factorize(frame["group"])[0].astype(np.intp)
        own.add("group")
    return Predictions(
        row_id=frame["row_id"].to_numpy(dtype=np.int64),
        target=_plain(frame["target"]),
        output=output,
        columns={name: _plain(frame[name]) for name in frame.columns if name not in own},
        groups=groups,
        slicings=tuple(json.loads((table.schema.metadata or {}).get(_SLICINGS, b"[]"))),
    )


def _plain(series: pd.Series[Any]) -> NDArray[Any]:
    if series.dtype.kind in "iufbM":
        return series.to_numpy()
    return series.astype(object).where(series.notna(), None).to_numpy(dtype=object)
