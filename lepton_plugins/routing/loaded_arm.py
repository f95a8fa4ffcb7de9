"""An arm that is ready to answer: its model, the columns it takes, and its output in the plan's terms."""

from __future__ import annotations

import math
from asyncio import _get_running_loop
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import ClassesDiffer, OutputUnavailable, StreamingUnavailable
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.plan import Arm
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.arm_load import ArmLoad
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.cores import whole_cores
from lepton_plugins.routing.inputs import Columns, fit_column, numpy_dtype
from lepton_plugins.routing.micro_batch import MOST, MicroBatches
from lepton_plugins.routing.streaming import Cancellation

#: Spellings of the same two classes.
_BOOLEANS = {"True": "1", "False": "0", "true": "1", "false": "0"}


class RunningArm(Protocol):
    """What answers as an arm: one that is loaded, or that is when it is asked."""

    version: str

    def predict(self, columns: Columns, rows: int) -> NDArray[Any]: ...

    def stream(self, columns: Columns, request: Mapping[str, Any] | None, cancelled: Cancellation) -> Iterator[Any]: ...


class LoadedArm:
    """Runs one version. `context` are the columns that the router takes for itself, no model's input.

    Calls that come from several threads while it is busy are answered together, within `objective` seconds
    where that is given. `load` is told how long they take.
    """

    def __init__(
        self,
        arm: Arm,
        model: LoadedModel,
        output: OutputKind,
        classes: Sequence[str],
        signature: Signature,
        context: frozenset[str],
        objective: float | None = None,
        load: ArmLoad | None = None,
    ) -> None:
        self.version = arm.version
        self.model = model
        self.output = output
        self._classes = tuple(classes) if output == "proba" else ()
        self._width = len(self._classes)
        self._own: tuple[str, ...] | None = None
        self._order: ClassOrder | None = None
        self._find_order()
        self._load = load
        self._call = self._answer if load is None else self._timed
        self.parallel = parallel_calls(model)
        self._batches = MicroBatches(self._call, self.parallel, objective)
        own = arm.signature or model.signature
        self._context = context
        self._names = own.input_names if own is not None else None
        offered = {field.name: field for field in signature.inputs}
        # In its own order: a model without a signature takes columns by position.
        self._takes_all = self._names == tuple(offered)
        self._tensor = _filled_tensor(own, model.signature)
        self._stacked = [field.name for field in own.plain] if own is not None else []
        self._parameters = [field.name for field in own.parameters] if own is not None else []
        #: Inputs that this version has in another dtype than the plan's signature.
        self._recast = (
            [f for f in own.inputs if f.name in offered and numpy_dtype(f) != numpy_dtype(offered[f.name])]
            if own is not None
            else []
        )

    def predict(self, columns: Columns, rows: int) -> NDArray[Any]:
        """The answer for all rows, in the plan's order of classes; its shape is checked."""
        if _get_running_loop() is not None:
            return self._call(columns, rows)  # An event loop's thread never waits for others.
        return self._batches.predict(columns, rows)

    @property
    def room(self) -> int:
        """How many rows of different callers one call should have at most."""
        return self._batches.room

    def refused(self) -> None:
        """Rows of different callers came as one call, which failed; each was answered alone."""
        self._batches.refused()

    def stream(self, columns: Columns, request: Mapping[str, Any] | None, cancelled: Cancellation) -> Iterator[Any]:
        """The answer for one row in parts, as the model gives them."""
        if not streams(self.model):
            raise StreamingUnavailable(f"Version {self.version}")
        parts: Iterator[Any] = self.model.stream(self._inputs(columns), request, cancelled)  # type: ignore[attr-defined]
        return parts

    def _timed(self, columns: Columns, rows: int) -> NDArray[Any]:
        began = perf_counter()
        values = self._answer(columns, rows)
        # Of larger calls a row takes less; nobody waits behind them for others.
        if self._load is not None and (rows <= MOST or _get_running_loop() is not None):
            self._load.learn(rows, began, perf_counter())
        return values

    def _answer(self, columns: Columns, rows: int) -> NDArray[Any]:
        values = self.model.predict(self._inputs(columns), self.output)
        if self.model.classes is not self._own:
            self._find_order()
        if self._order is not None:
            values = self._order.apply(values)
        shape = values.shape
        if self._width:
            if shape != (rows, self._width):
                raise OutputUnavailable(self.version, self.output, f"an array of shape {shape}")
        elif shape != (rows,) and not (len(shape) == 2 and shape[0] == rows and self.output in ("value", "proba")):
            raise OutputUnavailable(self.version, self.output, f"an array of shape {shape}")
        return values

    def _find_order(self) -> None:
        """Some models know their classes only when they have answered."""
        own = self.model.classes
        self._order = class_order(own, self._classes, self.version)
        self._own = own

    def _inputs(self, columns: Columns) -> Columns:
        if self._names is None:
            columns = {name: column for name, column in columns.items() if name not in self._context}
        elif not self._takes_all:
            columns = {name: columns[name] for name in self._names if name in columns}
        if self._recast:
            columns = dict(columns)
            for field in self._recast:
                if field.name in columns:
                    columns[field.name] = fit_column(field, columns[field.name])
        if self._tensor is not None:
            stacked = np.stack([columns[name] for name in self._stacked], axis=1)
            filled = {self._tensor.name: fit_column(self._tensor, stacked)}
            for name in self._parameters:
                if name in columns:
                    filled[name] = columns[name]
            return filled
        return columns


def connections_of(model: LoadedModel) -> int | None:
    """How many calls of a model may wait for another host at once; None where it computes here."""
    connections: int | None = getattr(model, "connections", None)
    return connections


def parallel_calls(model: LoadedModel | None, processes: int = 1) -> int:
    """How many calls of a model (None: one that isn't loaded yet) run side by side in one of so many processes."""
    elsewhere = connections_of(model) if model is not None else None
    return elsewhere or whole_cores(processes)


def streams(model: LoadedModel) -> bool:
    """Whether a model may answer in parts."""
    return hasattr(model, "stream")


def _filled_tensor(own: Signature | None, model: Signature | None) -> Field | None:
    """The model's only tensor (rows, k), where its arm takes columns: they fill it in the arm's order."""
    if own is None or model is None or own.layout != "columns" or model.layout != "tensors":
        return None
    first, *more = model.plain
    return first if not more and len(first.shape) == 2 else None


class ClassOrder:
    """Puts a model's probability columns in the plan's order; a class that it doesn't know gets 0."""

    def __init__(self, sources: Sequence[int]) -> None:
        self._targets = [index for index, source in enumerate(sources) if source >= 0]
        self._sources = [source for source in sources if source >= 0]
        self._width = len(sources)

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        ordered = np.zeros((len(values), self._width), dtype=np.float64)
        ordered[:, self._targets] = values[:, self._sources]
        return ordered


def class_order(own: Sequence[str], classes: Sequence[str], version: str) -> ClassOrder | None:
    """How to reorder; None where the order is the same or isn't known. ClassesDiffer where one isn't in the plan."""
    if not own or not classes or list(own) == list(classes):
        return None
    if not set(own) & set(classes):
        own = [_BOOLEANS.get(name, name) for name in own]
        spelt = [_BOOLEANS.get(name, name) for name in classes]
    else:
        spelt = list(classes)
    if set(own) - set(spelt):
        raise ClassesDiffer(version, own, classes)
    sources = [list(own).index(name) if name in own else -1 for name in spelt]
    return None if sources == list(range(len(own))) else ClassOrder(sources)


def broken_rows(values: NDArray[Any], rows: int) -> NDArray[np.bool_] | None:
    """Rows without an answer: NaN, infinity or None in them; None where all have one."""
    kind = values.dtype.kind
    if kind == "f":
        if rows == 1:
            # Plain floats: the numpy call would cost more than all of this.
            flat = values.tolist()[0]
            total = flat if isinstance(flat, float) else sum(flat)
            return None if math.isfinite(total) else np.ones(1, dtype=bool)
        finite = np.isfinite(values)
        if finite.all():
            return None
        broken: NDArray[np.bool_] = ~(finite.all(axis=1) if values.ndim == 2 else finite)
        return broken
    if kind == "O":
        missing = np.fromiter((value is None or value != value for value in values), dtype=bool, count=rows)
        return missing if missing.any() else None
    return None


def take(columns: Mapping[str, NDArray[Any]], rows: NDArray[np.intp]) -> Columns:
    """Some rows of all columns."""
    return {name: column[rows] for name, column in columns.items()}
