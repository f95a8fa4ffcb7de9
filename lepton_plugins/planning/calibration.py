"""Versions whose scores differ in scale: routed together they can rank worse than each does alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions


def pooled_warning(
    paired: PairedPredictions, chosen: NDArray[np.intp], segments: NDArray[np.intp], classes: Sequence[str]
) -> str | None:
    """A warning where the routed scores' pooled AUC is below a single version's although segments rank better.

    `chosen` (n,) is each row's version, `segments` (n,) numbers its segment. Two classes with probabilities only.
    The difference to the best single version must be beyond its 95 % interval (DeLong, paired).
    """
    from lepton_plugins.evaluation.difference import paired_difference

    used = np.unique(chosen)
    if paired.task != "classification" or len(classes) != 2 or len(used) < 2 or paired.outputs[0].ndim != 2:
        return None
    positive = paired.target == classes[1]
    scores = [paired.outputs[int(version)][:, 1] for version in used]
    routed = np.select([chosen == version for version in used], scores)
    singles = {paired.versions[int(v)]: _auc(positive, score) for v, score in zip(used, scores, strict=True)}
    pooled = _auc(positive, routed)
    best = max(singles, key=lambda version: singles[version])
    if not pooled < singles[best]:
        return None
    best_score = scores[list(singles).index(best)]
    gap = paired_difference(
        "roc_auc",
        "classification",
        paired.target,
        np.stack([1 - best_score, best_score], axis=1),
        np.stack([1 - routed, routed], axis=1),
        classes,
        paired.groups,
    )
    if gap.high is None or gap.high >= 0:
        return None
    inside = ""
    if segments.min() < segments.max():
        within, alone = _within(positive, routed, segments), _within(positive, best_score, segments)
        inside = f", while within segments it is {within:.3f} against {alone:.3f}"
    rates = "; ".join(
        f"version {paired.versions[int(v)]} says {score[here].mean():.3f} where {positive[here].mean():.3f} happen"
        for v, score in zip(used, scores, strict=True)
        if (here := chosen == v).any()
    )
    listed = ", ".join(f"version {version} {value:.3f}" for version, value in singles.items())
    return (
        f"the versions aren't calibrated alike: the routed AUC over all rows is {pooled:.3f}, below version {best} "
        f"alone ({listed}){inside}. On the rows that each answers, {rates}. If scores are compared across "
        f"segments (one threshold, one ranking), recalibrate all "
        f"versions on the same recent data, or keep one version"
    )


def _auc(positive: NDArray[np.bool_], score: NDArray[Any]) -> float:
    """Mann-Whitney: the chance that a positive row scores above a negative one; ties count half."""
    from scipy.stats import rankdata

    hits = int(positive.sum())
    misses = len(positive) - hits
    if not hits or not misses:
        return float("nan")
    return float((rankdata(score)[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _within(positive: NDArray[np.bool_], score: NDArray[Any], cells: NDArray[np.intp]) -> float:
    """The AUC within segments, weighted by their rows; segments of one class only are left out."""
    order = np.argsort(cells, kind="stable")
    total, rows = 0.0, 0
    for part in np.split(order, np.flatnonzero(np.diff(cells[order])) + 1):
        area = _auc(positive[part], score[part])
        if area == area:
            total, rows = total + area * len(part), rows + len(part)
    return total / rows if rows else float("nan")
