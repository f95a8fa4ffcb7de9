"""Running a loaded version over the evaluation data, in bounded chunks, and checking what it returns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, ModelFailed, OutputInvalid, OutputUnavailable, TimedOut
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.report import Task
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.outputs import SUM_TOLERANCE

T = TypeVar("T")

#: The kinds of output that a task is scored from, best first.
KINDS: Mapping[Task, tuple[OutputKind, ...]] = {
    "classification": ("proba", "label"),
    "regression": ("value",),
    "ranking": ("score",),
}


def within(seconds: float, version: str, action: str, call: Callable[[], T]) -> T:
    """`call()`, given up after `seconds` (TimedOut). What is given up goes on in a thread of its own.

    An exception that isn't a LeptonError becomes ModelFailed: in here it is the model's code that runs.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # SystemExit too: a model's code must not end the evaluation.
            errors.append(error)

    thread = threading.Thread(target=run, name=f"lepton-{action}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimedOut(version, action, seconds)
    if errors:
        error = errors[0]
        if isinstance(error, LeptonError):
            raise error
        raise ModelFailed(version, action, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}") from error
    return results[0]


def predict_rows(
    model: LoadedModel,
    columns: Mapping[str, NDArray[Any]],
    rows: int,
    task: Task,
    version: str,
    *,
    chunk: int,
    time_limit: float,
    advance: Callable[[int], None],
) -> tuple[NDArray[Any], OutputKind, str]:
    """All predictions in order, their kind (the task's best that the version can give), and why no better one.

    proba float64 (rows, classes of the model), label (rows,), score or value float64 (rows,) or (rows, k).
    Raises ModelFailed, OutputInvalid, OutputUnavailable or TimedOut.
    """
    kinds = list(KINDS[task])
    parts: list[NDArray[Any]] = []
    why = ""
    for start in range(0, rows, chunk):
        stop = min(start + chunk, rows)
        part = {name: values[start:stop] for name, values in columns.items()}
        while True:
            try:
                raw = within(time_limit, version, "predict", lambda part=part: model.predict(part, kinds[0]))  # type: ignore[misc]
            except OutputUnavailable as error:
                # Only before the first answer: a version that changes its mind half way is broken.
                if len(kinds) == 1 or parts:
                    raise
                kinds.pop(0)
                why = str(error)
                continue
            break
        parts.append(_checked(np.asarray(raw), stop - start, kinds[0], version, start))
        advance(stop)
    if len({part.shape[1:] for part in parts}) > 1:
        raise OutputInvalid(version, "a different number of columns from one call to the next", "always the same")
    return np.concatenate(parts), kinds[0], why


def _checked(values: NDArray[Any], rows: int, kind: OutputKind, version: str, start: int) -> NDArray[Any]:
    widths = {"proba": (2,), "label": (1,), "score": (1,), "value": (1, 2)}[kind]
    if values.ndim not in widths or len(values) != rows:
        expected = f"({rows}, classes)" if kind == "proba" else f"({rows},)"
        raise OutputInvalid(version, f"{kind} of shape {values.shape}", expected)
    if kind == "label":
        return values
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise OutputInvalid(version, f"{kind} of dtype {values.dtype}", "numbers") from None
    finite = np.isfinite(numbers)
    if not finite.all():
        broken = ~finite.reshape(rows, -1).all(axis=1)
        what = "NaN" if np.isnan(numbers).any() else "infinity"
        where = f"{int(broken.sum())} of {rows} rows (first: row {start + int(broken.argmax())})"
        raise OutputInvalid(version, f"{what} in {where}", "finite numbers")
    if kind == "proba":
        low, high = float(numbers.min()), float(numbers.max())
        off = float(np.abs(numbers.sum(axis=1) - 1).max())
        if low < -SUM_TOLERANCE or high > 1 + SUM_TOLERANCE or off > SUM_TOLERANCE:
            found = f"probabilities from {low:.4g} to {high:.4g} with rows that sum to 1 ± {off:.2g}"
            raise OutputInvalid(version, found, "numbers in [0, 1] that sum to 1")
        numbers = np.clip(numbers, 0.0, 1.0)
    return numbers
