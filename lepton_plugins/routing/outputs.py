"""Bringing what models return to the kinds of output in `records.output`.

Shapes: probabilities (rows, classes) float64, labels (rows,), scores (rows,) and values (rows,) or
(rows, k) float64. NaN passes through: who asked decides what it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import OutputUnavailable
from lepton_plugins.records.output import OutputKind

#: Single precision, and models that round what they return: a row may miss one by this much.
SUM_TOLERANCE = 1e-3


def as_proba(raw: NDArray[Any], rows: int) -> NDArray[np.float64]:
    """Probabilities of classes, each row summing to one.

    One column, or none, is the probability of the second of two classes. OutputUnavailable where the
    figures can't be probabilities.
    """
    values = _floats(raw, rows, "proba")
    if values.ndim == 1 or values.shape[1] == 1:
        positive = values.reshape(rows)
        if bool(((positive < 0) | (positive > 1)).any()):
            raise OutputUnavailable(None, "proba", "one number a row, outside 0 to 1")
        return np.stack([1.0 - positive, positive], axis=1)
    if values.ndim != 2:
        raise OutputUnavailable(None, "proba", f"an array of shape {values.shape}")
    if rows == 1:
        # Plain floats: three numpy calls would cost more than a small model's answer.
        row = values[0].tolist()
        total = sum(row)
        if abs(total - 1.0) > SUM_TOLERANCE or min(row) < -SUM_TOLERANCE:
            raise OutputUnavailable(None, "proba", f"scores that aren't probabilities (a row sums to {total:.4g})")
        return values
    totals = values.sum(axis=1)
    wrong = (np.abs(totals - 1.0) > SUM_TOLERANCE) | (values < -SUM_TOLERANCE).any(axis=1)
    if wrong.any():
        total = totals[np.argmax(wrong)]
        raise OutputUnavailable(None, "proba", f"scores that aren't probabilities (a row sums to {total:.4g})")
    return values


def proba_of_logits(raw: NDArray[Any], rows: int) -> NDArray[np.float64]:
    """Softmax of (rows, classes) logits; the logistic function of one logit a row."""
    logits = _floats(raw, rows, "proba")
    if logits.ndim == 1 or logits.shape[1] == 1:
        logits = np.stack([np.zeros(rows), logits.reshape(rows)], axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def label_of_scores(scores: NDArray[Any], classes: NDArray[Any] | None) -> NDArray[Any]:
    """The class of the highest figure in each row of (rows, classes); its index where names aren't known."""
    best: NDArray[Any] = np.argmax(scores, axis=1)
    if classes is not None and len(classes) == scores.shape[1]:
        best = classes[best]
    return best


def as_label(raw: NDArray[Any], rows: int) -> NDArray[Any]:
    """One label a row, of whatever type the model uses."""
    values = np.asarray(raw)
    if values.shape == (rows,):
        return values
    if values.size == rows and values.shape[:1] == (rows,):
        return values.reshape(rows)
    raise OutputUnavailable(None, "label", f"an array of shape {values.shape} for {rows} rows")


def as_score(raw: NDArray[Any], rows: int) -> NDArray[np.float64]:
    """One number a row, the higher the better; of two columns the second one's lead."""
    values = _floats(raw, rows, "score")
    if values.ndim == 2 and values.shape[1] == 2:
        return np.asarray(values[:, 1] - values[:, 0], dtype=np.float64)
    if values.size != rows:
        raise OutputUnavailable(None, "score", f"{values.shape[1]} scores a row, one for each class")
    return values.reshape(rows)


def score_of_proba(proba: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of the second of two classes."""
    if proba.shape[1] != 2:
        raise OutputUnavailable(None, "score", f"probabilities of {proba.shape[1]} classes")
    return proba[:, 1]


def as_value(raw: NDArray[Any], rows: int) -> NDArray[np.float64]:
    """Numbers: (rows,), or (rows, k) for several targets."""
    values = _floats(raw, rows, "value")
    if values.ndim > 2:
        raise OutputUnavailable(None, "value", f"an array of shape {values.shape}")
    return values.reshape(rows) if values.ndim == 2 and values.shape[1] == 1 else values


def class_names(values: Sequence[Any] | NDArray[Any]) -> tuple[str, ...]:
    """Class names as text: 0, 1 and 0.0, 1.0 are "0" and "1"."""
    return tuple(_class_name(value) for value in values)


def _class_name(value: Any) -> str:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bytes):
        return plain.decode("utf-8", "replace")
    return str(int(plain)) if isinstance(plain, float) and plain.is_integer() else str(plain)


def _floats(raw: NDArray[Any], rows: int, output: OutputKind) -> NDArray[np.float64]:
    try:
        values = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError):
        raise OutputUnavailable(None, output, "labels or objects that aren't numbers") from None
    if values.shape[:1] != (rows,):
        raise OutputUnavailable(None, output, f"an array of shape {values.shape} for {rows} rows")
    return values
