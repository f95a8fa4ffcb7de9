"""The stages of a cascade: which versions, from which confidence on each answers, and how their answers are mixed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lepton_selection.confidence import Calibration, calibrate
from lepton_selection.stacking import share_of_two
from lepton_selection.thresholds import NEVER, Chosen, keeping, thresholds

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions

Floats = NDArray[np.float64]

MOST = 4


@dataclass(frozen=True, slots=True)
class _Cascade:
    """Some versions one after another, before thresholds are chosen; what is by row has the evaluated rows' order."""

    names: tuple[str, ...]
    weights: tuple[float, ...]
    """What a stage's own answer weighs in its rows' answers; the rest is what they were answered before."""
    calibrations: tuple[Calibration, ...]
    confidence: list[Floats]
    utility: Floats


@dataclass(frozen=True, slots=True)
class Short:
    """No stages do what is asked; the best part of the utility within the cost, None where nothing costs so little."""

    quality: float | None

    def __str__(self) -> str:
        return "no utility: the first stage alone costs more" if self.quality is None else f"quality {self.quality:.4g}"


def worthwhile(paired: PairedPredictions, costs: Mapping[str, float], able: Sequence[str]) -> list[str]:
    """By cost, those that beat all cheaper ones; the best of them where there are too many."""
    mean = dict(zip(paired.versions, paired.utility.mean(axis=0).tolist(), strict=True))
    stages: list[str] = []
    for name in sorted(able, key=lambda name: (costs[name], -mean[name])):
        if not stages or mean[name] > mean[stages[-1]]:
            stages.append(name)
    return stages if len(stages) <= MOST else [stages[0], *stages[1 - MOST :]]


def fit(
    paired: PairedPredictions,
    costs: Mapping[str, float],
    stages: Sequence[str],
    *,
    among: Sequence[str],
    quality: float | None,
    most: float | None,
    sure: float,
    blend: bool,
) -> list[dict[str, Any]] | Short:
    """The stages' documents: of all parts of `stages`, in their order, and all thresholds the best.

    The cheapest with `quality` times the utility of the best version `among` these alone, else the best; `most` is the
    most cost. Of a single version, which is chosen from few, the mean shows that it has either.
    """
    best = paired.utility[:, max(map(paired.versions.index, among), key=paired.utility.mean(axis=0).__getitem__)]
    found: list[tuple[tuple[float, float], _Cascade, Chosen]] = []
    within: list[float] = []
    for cascade in _cascades(paired, stages, blend):
        spent = np.array([costs[name] for name in cascade.names])
        tried = thresholds(cascade.confidence, cascade.utility, spent.tolist())
        proof = 0.5 if len(cascade.names) == 1 else sure
        allowed = np.ones(np.shape(tried.utility), dtype=bool)
        if most is not None:
            left = np.tile(most * (1 + 1e-9) - np.cumsum(spent), (paired.rows, 1))
            allowed = keeping(cascade.confidence, left, proof, paired.groups, allowed)
            within += [float(np.max(tried.utility[allowed]))] if allowed.any() else []
        if quality is not None:
            over = cascade.utility - quality * best[:, None]
            allowed = keeping(cascade.confidence, over, proof, paired.groups, allowed)
        chosen = tried.best(allowed, cheapest=quality is not None)
        if chosen is not None:
            order = (chosen.cost, -chosen.utility) if quality is not None else (-chosen.utility, chosen.cost)
            found.append((order, cascade, chosen))
    if not found:
        return Short(max(within) / float(best.mean()) if within else None)
    _, cascade, chosen = min(found, key=lambda item: item[0])
    return _documents(cascade, chosen)


def mixed(before: NDArray[Any], own: NDArray[Any], weight: float) -> NDArray[Any]:
    """Answers (rows, classes) of a stage and of what was answered before it, which may be NaN; then its own."""
    known = np.isfinite(before).all(axis=1)[:, None]
    both: NDArray[Any] = np.where(known, weight * own + (1 - weight) * before, own).astype(own.dtype)
    return both


def _cascades(paired: PairedPredictions, stages: Sequence[str], blend: bool) -> Iterator[_Cascade]:
    from lepton_plugins.evaluation.labels import class_codes

    truth = class_codes(paired.target, paired.classes)
    for count in range(1, len(stages) + 1):
        for names in combinations(stages, count):
            weights: list[float] = []
            answers: list[NDArray[Any]] = []
            utility: list[Floats] = []
            for name in names:
                place = paired.versions.index(name)
                own, weight, useful = paired.outputs[place], 1.0, paired.utility[:, place]
                if blend and answers:
                    own, weight, useful = _blended(paired, place, answers[-1], truth)
                answers.append(own)
                weights.append(weight)
                utility.append(useful)
            calibrations = tuple(calibrate(answer, answer.argmax(axis=1) == truth) for answer in answers[:-1])
            confidence = [
                calibration.confidence(answer) for calibration, answer in zip(calibrations, answers, strict=False)
            ]
            yield _Cascade(names, tuple(weights), calibrations, confidence, np.stack(utility, axis=1))


def _blended(
    paired: PairedPredictions, place: int, before: NDArray[Any], truth: NDArray[np.intp]
) -> tuple[NDArray[Any], float, Floats]:
    """A version's answers mixed with those before by the likeliest weight, or its own where that isn't better."""
    own, rows = paired.outputs[place], np.arange(paired.rows)
    weight = share_of_two(own[rows, truth], before[rows, truth])
    answer = mixed(before, own, weight)
    sign = 1.0 if paired.greater_is_better else -1.0
    better = sign * (paired.measure(answer) - paired.values[:, place])
    if not better.mean() > 0:
        return own, 1.0, paired.utility[:, place]
    return answer, weight, paired.utility[:, place] + paired.unit * better


def _documents(cascade: _Cascade, chosen: Chosen) -> list[dict[str, Any]]:
    fitted: list[dict[str, Any]] = []
    left = np.ones(len(cascade.utility), dtype=bool)
    for number, name in enumerate(cascade.names):
        last = number == len(cascade.names) - 1
        bar = NEVER if last else chosen.thresholds[number]
        stays = left if last else left & (cascade.confidence[number] >= bar)
        entry: dict[str, Any] = {"version": name, "share": float(f"{stays.mean():.6g}")}
        if cascade.weights[number] < 1:
            entry["weight"] = cascade.weights[number]
        left = left & ~stays
        fitted.append(entry)
        if not left.any():
            break
        entry |= {"threshold": bar, "calibration": list(cascade.calibrations[number])}
    return fitted
