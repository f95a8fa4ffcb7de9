"""Routed answers against each single version's, on the same flights: quality with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.difference import mean_difference
from lepton_plugins.evaluation.intervals import normal_quantile
from lepton_plugins.evaluation.means import mean
from lepton_plugins.evaluation.metrics import metric
from lepton_plugins.evaluation.partition import Partition, unit_numbers
from lepton_plugins.evaluation.roc_auc import roc_auc
from lepton_plugins.evaluation.row_metrics import row_values
from lepton_plugins.quickstart.result import Contender, PeriodResult
from lepton_plugins.quickstart.traffic import Answers
from lepton_plugins.records.report import Estimate

FloatArray = NDArray[np.float64]

_CLASSES = ("0", "1")
_LEVEL = 0.95


def compare(
    period: str,
    target: NDArray[np.int64],
    carriers: NDArray[np.object_],
    routed: Answers,
    singles: Mapping[str, Answers],
    names: Mapping[str, tuple[str, str]],
    p50_ms: Mapping[str | None, float],
) -> PeriodResult:
    """Score the answers to one period's flights; arrays (n,).

    `singles`, `names` (label and summary) and `p50_ms` go by version; the plan's latency has the key None.
    """
    share = Counter(routed.versions)
    by_carrier = Partition(unit_numbers(carriers), len(set(carriers)))
    loss, within = _losses(target, routed), _Within(by_carrier, target, routed.probability)

    def contender(version: str) -> Contender:
        answers, (label, summary) = singles[version], names[version]
        own_loss, alone = _losses(target, answers), _Within(by_carrier, target, answers.probability)
        return Contender(
            name=label,
            summary=summary,
            share=share[version] / len(target),
            log_loss=_log_loss(own_loss),
            auc=alone.estimate(),
            loss_saved=mean_difference(loss, own_loss, level=_LEVEL),
            auc_gained=within.minus(alone),
            p50_ms=p50_ms[version],
        )

    return PeriodResult(
        period=period,
        flights=len(target),
        late=float(target.mean()),
        routed=Contender(
            name="routed",
            summary="the plan",
            share=1.0,
            log_loss=_log_loss(loss),
            auc=within.estimate(),
            p50_ms=p50_ms[None],
        ),
        singles=tuple(contender(version) for version in singles),
    )


def _table(answers: Answers) -> FloatArray:
    return np.stack([1 - answers.probability, answers.probability], axis=1)


def _labels(target: NDArray[np.int64]) -> NDArray[np.object_]:
    return np.array(_CLASSES, dtype=object)[target]


def _losses(target: NDArray[np.int64], answers: Answers) -> FloatArray:
    return row_values("log_loss", _labels(target), _table(answers), _CLASSES)


def _log_loss(losses: FloatArray) -> Estimate:
    info = metric("classification", "log_loss", len(_CLASSES))
    measured = mean(Partition.whole(losses.size), losses, _LEVEL, info.low, info.high)
    return measured.estimate(info, 0, _LEVEL)


class _Within:
    """The AUC within carriers: Σ_c n_c/n · AUC_c over the carriers that have both classes.

    Carriers are independent of each other, so the rows' influences (DeLong's structural components) add
    up with the carriers' weights, and those of two versions on the same rows subtract.
    """

    def __init__(self, carriers: Partition, target: NDArray[np.int64], probability: FloatArray) -> None:
        order = np.argsort(probability, kind="stable")
        measured = roc_auc(carriers, [probability], [target == 1], [order], _LEVEL)
        defined = ~np.isnan(measured.value)
        weight = np.where(defined, carriers.rows, 0) / carriers.rows[defined].sum()
        assert measured.influence is not None
        self.rows = int(carriers.rows[defined].sum())
        self.value = float((weight * np.nan_to_num(measured.value)).sum())
        self.influence = weight[carriers.codes] * measured.influence()

    def estimate(self) -> Estimate:
        return self._estimate(self.value, self.influence, "mean of the carriers' AUC, DeLong (1988)")

    def minus(self, other: _Within) -> Estimate:
        method = "paired difference of the carriers' mean AUC, DeLong (1988)"
        return self._estimate(self.value - other.value, self.influence - other.influence, method)

    def _estimate(self, value: float, influence: FloatArray, method: str) -> Estimate:
        half = normal_quantile(_LEVEL) * float(np.sqrt(np.square(influence).sum()))
        return Estimate(
            value=value,
            low=value - half,
            high=value + half,
            level=_LEVEL,
            method=method,
            n=self.rows,
            greater_is_better=True,
        )
