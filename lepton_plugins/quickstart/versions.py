"""The three versions: one family and one period each, trained with scikit-learn and exported to ONNX.

Their settings are scikit-learn's defaults: nothing here was tuned on the evaluation or on the traffic.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lepton_plugins.quickstart.flights import INPUTS, NAMES, TARGET, Period, in_period

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

_OPSET = 18


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a version is made."""

    label: str
    family: Literal["logistic regression", "gradient boosting"]
    period: Period

    @property
    def summary(self) -> str:
        return f"{self.family}, {self.period}"


#: A team's history: the first model, a stronger family on the same months, the same family on newer months.
RECIPES = (
    Recipe("v1", "logistic regression", Period(1, 4)),
    Recipe("v2", "gradient boosting", Period(1, 4)),
    Recipe("v3", "gradient boosting", Period(5, 8)),
)


def train(recipe: Recipe, flights: pd.DataFrame) -> Any:
    """A fitted scikit-learn pipeline that takes the inputs' columns and gives probabilities."""
    rows = in_period(flights, recipe.period)
    pipeline = _logistic_regression() if recipe.family == "logistic regression" else _gradient_boosting()
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # A second of work: on a busy machine threads that wait for each other at every node take a minute.
    with threadpool_limits(limits=1):
        return pipeline.fit(rows[list(INPUTS)], rows[TARGET])


def _logistic_regression() -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    # An airport with a handful of flights gets no coefficient of its own.
    columns = ColumnTransformer(
        [
            ("names", OneHotEncoder(handle_unknown="ignore", min_frequency=20), list(NAMES)),
            ("calendar", OneHotEncoder(handle_unknown="ignore"), ["weekday", "hour"]),
            ("numbers", StandardScaler(), ["departure", "arrival", "distance"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


def _gradient_boosting() -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    columns = ColumnTransformer(
        [
            ("names", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), list(NAMES)),
            ("numbers", "passthrough", ["weekday", "departure", "arrival", "distance"]),
        ]
    )
    return make_pipeline(columns, HistGradientBoostingClassifier(random_state=0))


def export(pipeline: Any, path: Path) -> None:
    """Write the pipeline as ONNX: one input a column, outputs `label` and `probabilities` (rows, 2)."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    kinds = [(name, StringTensorType if name in NAMES else Int64TensorType) for name in INPUTS]
    inputs = [(name, kind([None, 1])) for name, kind in kinds]
    model = to_onnx(pipeline, initial_types=inputs, options={"zipmap": False}, target_opset=_OPSET)
    path.write_bytes(model.SerializeToString())


def deviation(pipeline: Any, path: Path, rows: pd.DataFrame) -> float:
    """The largest difference between the exported file's probabilities and scikit-learn's on these rows."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    # An encoder may drop an input that the family doesn't use.
    feed = {entry.name: _tensor(rows[entry.name]) for entry in session.get_inputs()}
    exported: NDArray[np.float32] = session.run(["probabilities"], feed)[0]
    return float(abs(exported - pipeline.predict_proba(rows[list(INPUTS)])).max())


def _tensor(column: pd.Series[Any]) -> NDArray[Any]:
    kind = object if column.name in NAMES else "int64"
    return column.to_numpy(dtype=kind).reshape(-1, 1)
