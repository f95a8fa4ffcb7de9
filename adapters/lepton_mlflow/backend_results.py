"""What a pyfunc answered: a DataFrame, a Series, an array, a list or a dictionary, told apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import OutputUnavailable
from lepton_plugins.routing.outputs import class_names

_LABEL_NAMES = frozenset({"label", "labels", "predicted_label", "class", "predicted_class", "output_label"})
_PROBA_NAMES = frozenset({"proba", "probas", "probability", "probabilities", "predict_proba", "output_probability"})
_PROBA_PREFIXES = ("probability_", "proba_", "prob_")


@dataclass(slots=True)
class Result:
    """The parts of an answer. `numbers` are floats or integers that aren't said to be probabilities."""

    label: NDArray[Any] | None = None
    proba: NDArray[Any] | None = None
    numbers: NDArray[Any] | None = None
    classes: tuple[str, ...] = ()


def interpret(answer: Any, rows: int) -> Result:
    """Tell labels, probabilities and numbers apart; OutputUnavailable for what is none of them."""
    if hasattr(answer, "columns") and hasattr(answer, "iloc"):
        return _named({str(name): answer[name].to_numpy() for name in answer.columns})
    if isinstance(answer, Mapping):
        return _named({str(name): np.asarray(values) for name, values in answer.items()})
    if hasattr(answer, "to_numpy"):
        return _array(answer.to_numpy())
    if isinstance(answer, list) and answer and all(isinstance(item, Mapping) for item in answer):
        names = list(answer[0])
        return _named({str(name): np.asarray([item[name] for item in answer]) for name in names})
    return _array(np.asarray(answer))


def _array(values: NDArray[Any]) -> Result:
    if values.dtype.kind == "O" and all(isinstance(value, int | float) for value in values.flat):
        values = values.astype(np.float64)
    if values.dtype.kind == "f":
        if values.ndim == 2 and values.shape[1] > 1 and _sums_to_one(values):
            return Result(proba=values, numbers=values)
        return Result(numbers=values)
    if values.dtype.kind in "iu":
        return Result(label=values, numbers=values)
    if values.dtype.kind in "bUSO":
        return Result(label=values)
    raise OutputUnavailable(None, "label", f"an array of {values.dtype.name}")


def _named(columns: Mapping[str, NDArray[Any]]) -> Result:
    """Columns or tensors by name."""
    if len(columns) == 1:
        name, values = next(iter(columns.items()))
        result = _array(values)
        if name.lower() in _PROBA_NAMES:
            result.proba = values
        return result
    result = Result()
    probabilities: dict[str, NDArray[Any]] = {}
    rest: dict[str, NDArray[Any]] = {}
    for name, values in columns.items():
        lower = name.lower()
        prefix = next((prefix for prefix in _PROBA_PREFIXES if lower.startswith(prefix)), None)
        if lower in _PROBA_NAMES:
            _set_proba(result, values)
        elif prefix:
            probabilities[name[len(prefix) :]] = values
        elif lower in _LABEL_NAMES:
            result.label = values
        else:
            rest[name] = values
    if probabilities and result.proba is None:
        result.proba, result.classes = np.stack(list(probabilities.values()), axis=1), tuple(probabilities)
    if "prediction" in rest or "predictions" in rest:
        first = _array(rest["prediction" if "prediction" in rest else "predictions"])
        result.label = first.label if result.label is None else result.label
        result.numbers = first.numbers
        return result
    if rest and all(values.dtype.kind in "fiu" and values.ndim == 1 for values in rest.values()):
        table = np.stack(list(rest.values()), axis=1)
        if result.proba is None and table.dtype.kind == "f" and table.shape[1] > 1 and _sums_to_one(table):
            # One column for each class, called by the class, as a table of predict_proba has it.
            result.proba, result.classes = table, tuple(rest)
        else:
            result.numbers = table
    if result.label is None and result.proba is None and result.numbers is None:
        raise OutputUnavailable(None, "label", f"columns {', '.join(columns)[:200]}")
    return result


def _set_proba(result: Result, values: NDArray[Any]) -> None:
    if values.dtype == object and len(values) and isinstance(values[0], Mapping):
        names = list(values[0])  # ZipMap's dictionaries, as MLflow's onnx flavour returns them.
        result.proba = np.array([[row[name] for name in names] for row in values])
        result.classes = class_names(names)
    elif values.dtype == object:
        result.proba = np.stack([np.asarray(value, dtype=np.float64) for value in values])
    else:
        result.proba = values


def _sums_to_one(values: NDArray[Any]) -> bool:
    return bool(values.size and (values >= 0).all() and np.allclose(values.sum(axis=1), 1.0, atol=1e-3))
