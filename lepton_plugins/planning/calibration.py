"""Versions that aren't calibrated alike: their scores differ in scale, and routed together can rank worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.labels import class_codes
from lepton_plugins.planning.recalibration import recalibrate, scale_difference, telling_score

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

#: Log odds by which scores must differ to be worth a warning: a tenth of the odds. Many rows prove less.
_LEAST = 0.1
_ALPHA = 0.05


def calibration_warning(
    paired: PairedPredictions,
    chosen: NDArray[np.intp],
    shares: NDArray[np.float64],
    segments: NDArray[np.intp],
    classes: Sequence[str],
) -> str | None:
    """A warning where versions that share the traffic aren't calibrated alike; None where nothing proves it.

    `chosen` (n,) is each row's version, `shares` (n, versions) the probability of each, `segments` (n,) numbers its
    segment. The stronger finding first: that the pooled AUC fell (`pooled_warning`).
    """
    return pooled_warning(paired, chosen, segments, classes) or scale_warning(paired, shares, classes)


def scale_warning(paired: PairedPredictions, shares: NDArray[np.float64], classes: Sequence[str]) -> str | None:
    """A warning where one score means different chances by the version that gave it, on the rows that each answers.

    Each version that answers is recalibrated by a logistic curve on its rows, weighted by `shares`; it differs from
    the one with the most traffic if Wald's test says so at 5 % (Bonferroni over the versions) and the odds are apart
    by a tenth or more (root mean square over the routed scores). Probabilities only: of the second of two classes,
    of more than two that of the predicted one.
    """
    if paired.task != "classification" or len(classes) < 2:
        return None
    units = np.arange(paired.rows) if paired.groups is None else np.unique(paired.groups, return_inverse=True)[1]
    count = int(units.max()) + 1
    made = {}
    for version in np.flatnonzero(shares.sum(axis=0) > 0).tolist():
        output = paired.outputs[version]
        if output.ndim != 2 or output.shape[1] != len(classes):
            return None
        score, hit = _scored(output, paired.target, classes)
        found = recalibrate(score, hit, shares[:, version], units, count)
        if found is not None:
            made[version] = (score, found)
    if len(made) < 2:
        return None
    most = max(made, key=lambda version: float(shares[:, version].sum()))
    routed = np.concatenate([score for score, _ in made.values()])
    weights = np.concatenate([shares[:, version] for version in made])
    differ = {
        version: difference.p_value
        for version, (_, found) in made.items()
        if version != most
        and (difference := scale_difference(made[most][1], found, routed, weights)).size >= _LEAST
        and difference.p_value < _ALPHA / (len(made) - 1)
    }
    if not differ:
        return None
    told = {version: made[version][1] for version in (most, *differ)}
    at = telling_score(list(told.values()), routed[weights > 0])
    what = f"a score of {at:.2f}" if len(classes) == 2 else f"a predicted class's probability of {at:.2f}"
    meanings = ", ".join(f"{found.meaning(at):.2f} from version {paired.versions[v]}" for v, found in told.items())
    curves = "; ".join(
        f"version {paired.versions[v]} slope {found.slope:.2f}, intercept {found.intercept:+.2f}"
        for v, found in told.items()
    )
    chance = max(differ.values())
    return (
        f"the versions aren't calibrated alike: on the rows that each answers, {what} came true {meanings} (logistic "
        f"recalibration: {curves}; p {'< 0.001' if chance < 0.001 else f'= {chance:.3f}'}). "
        f"One threshold, one ranking or an AUC over all rows mixes these scales: recalibrate all versions on the same "
        f"recent data, set a threshold for each version, or keep one version"
    )


def _scored(
    output: NDArray[Any], target: NDArray[Any], classes: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probability that calibration is about, and whether it came true; both (n,)."""
    codes = class_codes(target, classes)
    if len(classes) == 2:
        return output[:, 1].astype(np.float64), codes == 1
    predicted = output.argmax(axis=1)
    return output[np.arange(len(output)), predicted].astype(np.float64), codes == predicted


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
    positive = class_codes(paired.target, classes) == 1
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
