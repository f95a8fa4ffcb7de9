"""Weights of a combination that fit the evaluation data best: never negative, summing to one (Breiman 1996)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

Floats = NDArray[np.float64]


def stacked_weights(paired: PairedPredictions, members: Sequence[int]) -> Floats:
    """Weights (members,) of the outputs of these versions.

    Probabilities: the likeliest mixture, by expectation-maximisation. Numbers: least squares. PolicyUnfit where
    versions give labels, which have no weighted mean.
    """
    from lepton_plugins.errors import PolicyUnfit
    from lepton_plugins.evaluation.labels import class_codes

    outputs = [np.asarray(paired.outputs[index]) for index in members]
    if any(output.dtype.kind not in "fiu" for output in outputs):
        raise PolicyUnfit("ensemble", "how: stacked with labels", "how: vote")
    if paired.task == "classification":
        if any(output.ndim != 2 for output in outputs):
            raise PolicyUnfit("ensemble", "how: stacked without probabilities", "how: vote")
        codes = class_codes(paired.target, paired.classes)
        return _mixture(np.stack([output[np.arange(len(codes)), codes] for output in outputs], axis=1))
    design = np.stack([output.reshape(len(output), -1).ravel() for output in outputs], axis=1)
    return _least_squares(design, np.asarray(paired.target, dtype=np.float64).ravel())


def share_of_two(first: Floats, second: Floats) -> float:
    """The weight of the first that maximises Σ log(w · first + (1 - w) · second), of likelihoods (rows,); three digits.

    The sum's derivative falls with w, so that halving finds where it is zero.
    """
    second = np.maximum(second.astype(np.float64), 1e-12)
    ahead = np.maximum(first.astype(np.float64), 1e-12) - second
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if (ahead / (second + middle * ahead)).sum() > 0 else (low, middle)
    return round((low + high) / 2, 3)


def _mixture(likelihood: Floats) -> Floats:
    """Weights (k,) that maximise Σ log(likelihood @ weights), of likelihoods (rows, k); concave, so EM finds them."""
    likelihood = np.maximum(likelihood, 1e-12)
    weights: Floats = np.full(likelihood.shape[1], 1.0 / likelihood.shape[1])
    for _ in range(2000):
        part = likelihood * weights
        new: Floats = (part / part.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(new - weights).max() < 1e-6:
            return new
        weights = new
    return weights


def _least_squares(design: Floats, target: Floats) -> Floats:
    """Weights (k,) on the simplex that minimise |design @ weights - target|²."""
    from scipy.optimize import nnls

    # On the simplex design @ w - target is (design - target) @ w; a heavy row asks for Σ w = 1.
    residual = design - target[:, None]
    triangle = np.linalg.qr(residual, mode="r")
    heavy = 1e4 * max(float(np.abs(triangle).max()), 1e-12)
    found, _ = nnls(np.vstack([triangle, np.full(design.shape[1], heavy)]), np.r_[np.zeros(len(triangle)), heavy])
    weights: Floats = found / found.sum()
    return weights
