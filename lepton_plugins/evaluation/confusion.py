"""Metrics of the confusion matrix: proportions with Wilson's interval, and their averages over classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.intervals import normal_quantile, t_quantile, wilson
from lepton_plugins.evaluation.macro import Components, Layer, class_variances, macro
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition, tally

FloatArray = NDArray[np.float64]


def confusion(
    partition: Partition,
    target: NDArray[np.intp],
    predicted: NDArray[np.intp],
    classes: int,
    level: float,
) -> dict[str, Measurement]:
    """accuracy, balanced_accuracy, and precision, recall, F1 of `classes` classes.

    Two classes: `precision`, `recall`, `f1` of class 1, and `f1_macro`; more: averages over the classes
    in the slice. Precision and recall are proportions given their denominators. So is the Jaccard
    index J = TP / (TP + FP + FN), and F1 = 2J / (1 + J) rises with it: Wilson's limits carry over.
    """
    right = target == predicted
    everything = np.zeros(target.size, dtype=np.intp)
    wrong = ~right
    recall = _shares(partition, [(target, right, None)], classes, level)
    precision = _shares(partition, [(predicted, right, None)], classes, level)
    # A row that one version predicts and another doesn't enters with its residual, not with a whole row.
    precision.grain = precision.grain * np.nan_to_num(precision.value * (1 - precision.value))
    # A wrong row counts against its own class and against the predicted one.
    jaccard = _shares(partition, [(target, right, None), (predicted, np.zeros_like(right), wrong)], classes, level)
    accuracy = _shares(partition, [(everything, right, None)], 1, level)
    f1 = _f1(partition, jaccard)
    method = "cluster-robust Wilson on the effective sample size (Korn & Graubard 1998)"
    method = method if partition.clustered else "Wilson (1927)"
    mean = f"mean over classes: {method} combined by MOVER (Zou 2007)"
    found = {
        "accuracy": _of_class(partition, accuracy, 0, method, "no rows"),
        "balanced_accuracy": macro(partition, recall, mean, "one class only"),
    }
    if classes == 2:
        found["precision"] = _of_class(partition, precision, 1, method, "no row was predicted positive")
        found["recall"] = _of_class(partition, recall, 1, method, "no positive row")
        found["f1"] = _of_class(
            partition, f1, 1, f"{method} on TP / (TP + FP + FN)", "no row is or was predicted positive"
        )
    else:
        # As scikit-learn has it: a class that is there but never predicted has precision 0.
        there = ~np.isnan(recall.value)
        precision.value = np.where(np.isnan(precision.value) & there, 0.0, precision.value)
        found["precision_macro"] = macro(partition, precision, mean, "no rows", at_least=1)
        found["recall_macro"] = macro(partition, recall, mean, "no rows", at_least=1)
    found["f1_macro"] = macro(partition, f1, f"{mean}, on TP / (TP + FP + FN)", "no rows", at_least=1)
    return found


Trial = tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.bool_] | None]


def _shares(partition: Partition, trials: list[Trial], classes: int, level: float) -> Components:
    cells = classes * partition.size
    trials_of, hits_of = np.zeros(cells), np.zeros(cells)
    for of, hit, counted in trials:
        cell = of * partition.size + partition.codes
        weights = None if counted is None else counted.astype(np.float64)
        trials_of += tally(cell, weights, cells)
        hits_of += tally(cell, hit.astype(np.float64), cells)
    shape = (classes, partition.size)
    size, hits = trials_of.reshape(shape), hits_of.reshape(shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = hits / size
    centre, scale = np.nan_to_num(value), np.maximum(size, 1)
    layers = []
    for of, hit, counted in trials:
        influence = (hit - centre[of, partition.codes]) / scale[of, partition.codes]
        layers.append(Layer(of, influence if counted is None else influence * counted))
    variance = class_variances(partition, layers, classes)
    if partition.clustered:
        touched = _units_with(partition, trials, classes)
        with np.errstate(invalid="ignore", divide="ignore"):
            effective = np.where(variance > 0, centre * (1 - centre) / variance, touched)
        effective = np.minimum(effective, size)
        z: FloatArray | float = t_quantile(level, touched - 1)
    else:
        effective, z = size, normal_quantile(level)
    low, high = wilson(centre, effective, z)
    grain = 1 / np.maximum(effective, 1) ** 2
    return Components(value, low, high, np.sqrt(variance), layers, effective, grain)


def _units_with(partition: Partition, trials: list[Trial], classes: int) -> FloatArray:
    """How many units have a trial of each class, (classes, slices)."""
    assert partition.unit_of_row is not None
    count = partition.slice_of_unit.size
    seen = np.zeros(classes * count)
    for of, _, counted in trials:
        weights = None if counted is None else counted.astype(np.float64)
        seen += tally(of * count + partition.unit_of_row, weights, seen.size)
    return np.stack([partition.sum_units((row > 0).astype(np.float64)) for row in seen.reshape(classes, count)])


def _f1(partition: Partition, jaccard: Components) -> Components:
    slope = 2 / (1 + np.nan_to_num(jaccard.value)) ** 2
    return Components(
        value=2 * jaccard.value / (1 + jaccard.value),
        low=2 * jaccard.low / (1 + jaccard.low),
        high=2 * jaccard.high / (1 + jaccard.high),
        errors=slope * jaccard.errors,
        layers=[
            Layer(layer.classes, slope[layer.classes, partition.codes] * layer.influence) for layer in jaccard.layers
        ],
        size=jaccard.size,
        grain=slope**2 * jaccard.grain,
    )


def _of_class(partition: Partition, shares: Components, of: int, method: str, undefined: str) -> Measurement:
    grain = np.broadcast_to(shares.grain, shares.value.shape)[of]

    def influence() -> FloatArray:
        own = [np.where(layer.classes == of, layer.influence, 0.0) for layer in shares.layers]
        return np.asarray(np.sum(own, axis=0), dtype=np.float64)

    return Measurement(
        shares.value[of], shares.low[of], shares.high[of], partition.rows, method, undefined, influence, grain
    )
