"""Tables in which some rows hold a null that no version has an answer for: the other rows are answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InputInvalid, NullUnanswered
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.signature import Signature
from lepton_plugins.routing.inputs import numpy_dtype
from lepton_plugins.routing.prediction import Prediction
from lepton_plugins.routing.request_ids import REQUEST_IDS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class AnswerableRows:
    """A table's rows as far as they have an answer.

    `rows` (answered,) are the numbers in the table of the rows of `prediction`; `why` says of the first other one why
    it has none.
    """

    prediction: Prediction
    rows: NDArray[np.intp]
    why: str


class Asked(Protocol):
    """Who answers a table, as `Router` does."""

    plan: DeploymentPlan
    signature: Signature

    def predict(self, data: Any, *, keys: NDArray[Any] | None = None, version: str | None = None) -> Prediction: ...


def predict_answerable(router: Asked, data: pd.DataFrame, version: str | None) -> AnswerableRows:
    """As `Router.predict_answerable`."""
    rows = np.arange(len(data))
    keys: NDArray[Any] | None = None
    why = ""
    while True:
        left = data if len(rows) == len(data) else data.iloc[rows]
        try:
            prediction = router.predict(left, keys=None if keys is None else keys[rows], version=version)
            return AnswerableRows(prediction, rows, why)
        except NullUnanswered as error:
            if keys is None:
                # With a draw of its own in each call a row could be left out by a version that it isn't for.
                keys = _keys(router.plan, data)
                continue
            numbers = rows[list(error.rows)].tolist()
            why = why or str(NullUnanswered(error.inputs, numbers[:1], error.versions))
            rows = np.setdiff1d(rows, numbers)
        except InputInvalid as error:
            nulls = _nulls_of_whole_numbers(router.signature, left, error.field)
            if not nulls.any():
                raise
            row = rows[nulls][0]
            why = why or f"Input {error.field!r} is null in row {row}. Expected a value: {error.expected} has no null."
            rows = rows[~nulls]


def _keys(plan: DeploymentPlan, data: pd.DataFrame) -> NDArray[Any]:
    """The units' keys (rows,), and for rows without one a key of its own; `per: request` has one for all."""
    request = REQUEST_IDS.new()
    own = np.array([f"{request}/{row if plan.per == 'row' else 0}" for row in range(len(data))], dtype=object)
    sticky = plan.around.sticky.key if plan.around.sticky is not None else None
    if sticky is None or sticky not in data:
        return own
    column = data[sticky]
    return np.where(column.notna(), column.astype(object), own)


def _nulls_of_whole_numbers(signature: Signature, data: pd.DataFrame, name: str | None) -> NDArray[np.bool_]:
    """The rows (rows,) in which an input is null whose type has none: whole numbers, yes or no."""
    field = next((field for field in signature.inputs if field.name == name), None)
    if field is None or name not in data or numpy_dtype(field).kind not in "iub":
        return np.zeros(len(data), dtype=bool)
    return np.asarray(data[name].isna())
