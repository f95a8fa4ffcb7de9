"""Loaded models of MLflow's flavours: estimators with their own methods, and pyfuncs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_mlflow.backend_formats import BARE, ESTIMATOR_FLAVORS, StoredFormat
from lepton_mlflow.backend_results import Result, interpret
from lepton_mlflow.own_code import loading
from lepton_plugins.errors import ModelFilesInvalid, OutputUnavailable, RequestInvalid, StreamingUnavailable
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing import outputs
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.mlmodel import MlModel, with_parameters
from lepton_plugins.routing.streaming import Cancellation

Columns = Mapping[str, NDArray[Any]]


def load_directory(mlmodel: MlModel, stored: StoredFormat) -> LoadedModel:
    """Load an MLflow model directory. CodeClashes."""
    with loading(mlmodel):
        return _load(mlmodel, stored)


def _load(mlmodel: MlModel, stored: StoredFormat) -> LoadedModel:
    if stored.flavor in ESTIMATOR_FLAVORS:
        raw = import_module(f"mlflow.{stored.flavor}").load_model(str(mlmodel.path))
        # A booster takes its own matrices: MLflow's wrapper makes them.
        if type(raw).__name__ != "Booster":
            return EstimatorModel(raw, mlmodel.signature)
    import mlflow.pyfunc

    try:
        return PyfuncModel(mlflow.pyfunc.load_model(str(mlmodel.path)), mlmodel.signature, mlmodel.parameters)
    except AttributeError as error:
        # What `torch.save(model.state_dict())` writes is told from a model by nothing but loading it.
        if stored.flavor == "pytorch" and isinstance(error.obj, dict):
            raise ModelFilesInvalid(
                mlmodel.path,
                "it holds weights without their module (a state_dict). Register a whole model: "
                "`torch.jit.save(torch.jit.script(model), FILE)`, or `torch.save(model, FILE)`",
            ) from None
        raise


def load_bare(file: Path) -> LoadedModel:
    """Load one estimator's file."""
    name, _ = BARE[file.suffix]
    if name == "skops":
        import skops.io

        return EstimatorModel(skops.io.load(file, trusted=None), None)
    if name == "joblib":
        import joblib  # type: ignore[import-untyped]

        return EstimatorModel(joblib.load(file), None)
    with file.open("rb") as stream:
        return EstimatorModel(pickle.load(stream), None)


class EstimatorModel:
    """Anything with scikit-learn's methods: predict, and where there are predict_proba, decision_function, classes_."""

    def __init__(self, estimator: Any, signature: Signature | None) -> None:
        self._estimator = estimator
        self.signature = signature or _fitted_signature(estimator)
        known = getattr(estimator, "classes_", None)
        # Several targets have a list of arrays, one for each.
        flat = known is not None and not isinstance(known, list) and np.ndim(known) == 1 and len(known) > 0
        self.classes = outputs.class_names(np.asarray(known)) if flat else ()
        self._has_proba = hasattr(estimator, "predict_proba")
        self._has_decision = hasattr(estimator, "decision_function")
        kind = getattr(estimator, "_estimator_type", None)
        self._classifies = bool(self.classes) or self._has_proba or kind == "classifier"

    @property
    def native(self) -> Any:
        """The estimator itself, for who counts its parameters."""
        return self._estimator

    def predict(self, columns: Columns, output: OutputKind) -> NDArray[Any]:
        data, rows = model_data(columns, self.signature)
        if output == "proba":
            if not self._has_proba:
                found = "labels (it has no predict_proba)" if self._classifies else "values"
                raise OutputUnavailable(None, output, found)
            raw = self._estimator.predict_proba(data)
            if isinstance(raw, list):
                raise OutputUnavailable(None, output, f"probabilities of {len(raw)} targets")
            return outputs.as_proba(np.asarray(raw), rows)
        if output == "label":
            if not self._classifies:
                raise OutputUnavailable(None, output, "values")
            return outputs.as_label(np.asarray(self._estimator.predict(data)), rows)
        if output == "value":
            if self._classifies:
                raise OutputUnavailable(None, output, "labels")
            return outputs.as_value(np.asarray(self._estimator.predict(data)), rows)
        if self._has_decision:
            return outputs.as_score(np.asarray(self._estimator.decision_function(data)), rows)
        if self._has_proba:
            return outputs.score_of_proba(outputs.as_proba(np.asarray(self._estimator.predict_proba(data)), rows))
        if self._classifies:
            raise OutputUnavailable(None, output, "labels")
        return outputs.as_score(np.asarray(self._estimator.predict(data)), rows)

    def close(self) -> None:
        self._estimator = None


def _fitted_signature(estimator: Any) -> Signature | None:
    """The columns that an estimator was fitted on, where it was fitted on a table."""
    known = getattr(estimator, "feature_names_in_", None)
    if known is None or len(known) == 0:
        return None
    names = [str(name) for name in known]
    if names == [f"Column_{index}" for index in range(len(names))]:
        return None  # LightGBM's own, for arrays.
    return Signature(inputs=tuple(Field(name=name, dtype="object") for name in names))


class PyfuncModel:
    """A pyfunc: what its answer is shows when it has answered.

    `parameters` are columns like the others; rows of the same ones are answered by one call.
    """

    def __init__(self, model: Any, signature: Signature | None, parameters: Sequence[Field] = ()) -> None:
        self._model = model
        self.signature = with_parameters(signature, parameters)
        self._inputs = signature
        self._parameters = [field.name for field in parameters]
        self.classes: tuple[str, ...] = _inner_classes(model)
        self._streamable = bool(model.metadata.flavors.get("python_function", {}).get("streamable"))

    @property
    def native(self) -> Any:
        """The model that MLflow's wrapper hands out, for who looks at its parameters; None where it hands out none."""
        try:
            return self._model.get_raw_model()
        except Exception:  # A wrapper without one says so in a way of its own.
            return None

    def predict(self, columns: Columns, output: OutputKind) -> NDArray[Any]:
        given = [name for name in self._parameters if name in columns]
        if not given:
            return self._answer(columns, output, None)
        groups: dict[tuple[Any, ...], list[int]] = {}
        for row, values in enumerate(zip(*(_by_row(columns[name]) for name in given), strict=True)):
            groups.setdefault(values, []).append(row)
        if len(groups) == 1:
            return self._answer(columns, output, _said(given, next(iter(groups))))
        parts = [
            self._answer({name: column[rows] for name, column in columns.items()}, output, _said(given, values))
            for values, rows in groups.items()
        ]
        answers = np.concatenate(parts)
        ordered = np.empty_like(answers)
        ordered[np.concatenate(list(groups.values()))] = answers
        return ordered

    def _answer(self, columns: Columns, output: OutputKind, parameters: dict[str, Any] | None) -> NDArray[Any]:
        data, rows = model_data(columns, self._inputs)
        result = interpret(self._model.predict(data, params=parameters), rows)
        if output == "proba":
            return self._proba(result, rows)
        if output == "label":
            return self._label(result, rows)
        numbers = result.numbers
        if output == "score":
            if result.proba is not None:
                return outputs.score_of_proba(outputs.as_proba(result.proba, rows))
            if numbers is None:
                raise OutputUnavailable(None, output, "labels")
            return outputs.as_score(numbers, rows)
        if numbers is None:
            raise OutputUnavailable(None, output, "labels" if result.proba is None else "probabilities")
        return outputs.as_value(numbers, rows)

    def stream(self, columns: Columns, request: Mapping[str, Any] | None, cancelled: Cancellation) -> Iterator[Any]:
        """What the model's `predict_stream` yields. It ends with the part at which it is cancelled."""
        if not self._streamable:
            raise StreamingUnavailable("This version, which has no predict_stream,")
        if request is not None:
            raise StreamingUnavailable("This version", "chat completions")
        data, _ = model_data(columns, self._inputs)
        given = [name for name in self._parameters if name in columns]
        parameters = _said(given, [_by_row(columns[name])[0] for name in given])
        parts: Iterator[Any] = self._model.predict_stream(data, params=parameters)
        return parts

    def _proba(self, result: Result, rows: int) -> NDArray[np.float64]:
        raw = result.proba
        if raw is None and result.numbers is not None and np.asarray(result.numbers).dtype.kind == "f":
            raw = result.numbers
        if raw is None:
            raise OutputUnavailable(None, "proba", "labels")
        proba = outputs.as_proba(raw, rows)
        if result.classes and not self.classes:
            self.classes = result.classes  # Columns named by class tell the classes.
        elif result.classes and result.classes != self.classes:
            if sorted(result.classes) != sorted(self.classes):
                raise OutputUnavailable(None, "proba", f"classes {result.classes}, after {self.classes} before")
            proba = proba[:, [result.classes.index(name) for name in self.classes]]
        return proba

    def _label(self, result: Result, rows: int) -> NDArray[Any]:
        if result.label is not None:
            return outputs.as_label(result.label, rows)
        if result.proba is None:
            raise OutputUnavailable(None, "label", "values")
        names = np.asarray(result.classes or self.classes, dtype=object)
        return outputs.label_of_scores(outputs.as_proba(result.proba, rows), names if len(names) else None)

    def close(self) -> None:
        self._model = None


def _by_row(column: NDArray[Any]) -> list[Any]:
    """A parameter's value for each row; a list as a tuple, which can be a key, and NaN as None."""
    values = column.tolist()
    if column.ndim > 1:
        return [tuple(value) for value in values]
    return [value if value == value else None for value in values]


def _said(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any] | None:
    """Parameters by name; a null leaves the model its own default."""
    given = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    return {name: [*value] if isinstance(value, tuple) else value for name, value in given.items()} or None


def _inner_classes(model: Any) -> tuple[str, ...]:
    """The classes that a wrapped model knows: MLflow's wrappers hand it out."""
    for get in ("get_raw_model", "unwrap_python_model"):
        try:
            inner = getattr(model, get)()
        except Exception:
            continue
        known = getattr(inner, "classes_", None)
        if known is not None and np.ndim(known) == 1 and len(known):
            return outputs.class_names(np.asarray(known))
    return ()


def model_data(columns: Columns, signature: Signature | None) -> tuple[Any, int]:
    """What the model is given, by its signature: a DataFrame, an array, or a dictionary of arrays."""
    names = signature.input_names if signature is not None else tuple(columns)
    given = {name: columns[name] for name in names if name in columns}
    if signature is not None:
        for field in signature.inputs:
            if field.required and field.name not in given:
                raise RequestInvalid(f"The input {field.name!r} is missing.")
    if not given:
        raise RequestInvalid("No input of the model's was given.", expected=", ".join(names))
    rows = len(next(iter(given.values())))
    if signature is not None and signature.layout == "tensors":
        return (next(iter(given.values())) if len(signature.inputs) == 1 else given), rows
    if signature is None and len(given) == 1 and next(iter(given.values())).ndim > 1:
        return next(iter(given.values())), rows
    import pandas as pd

    return pd.DataFrame(given, copy=False), rows
