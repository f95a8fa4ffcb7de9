"""Binary and multiclass classification: every metric in every slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InvalidInput
from lepton_plugins.evaluation import means
from lepton_plugins.evaluation.calibration import Bins, calibration_error, find_bins
from lepton_plugins.evaluation.confusion import confusion
from lepton_plugins.evaluation.labels import class_codes
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition
from lepton_plugins.evaluation.roc_auc import roc_auc
from lepton_plugins.evaluation.row_metrics import classification_values
from lepton_plugins.evaluation.scored import Scored, infos_of
from lepton_plugins.records.output import OutputKind

FloatArray = NDArray[np.float64]

_COUNTED = {
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "precision_macro",
    "recall_macro",
    "f1_macro",
}


class Classification(Scored):
    """Class positions and, as far as the kind of output goes, probabilities, labels or a score.

    The predicted class is the most probable one (the first of equals). With two classes, the AUC and
    the calibration error look at the probability of class 1; with more, the AUC is the mean of each
    class versus the rest, and the calibration error looks at the predicted class's probability.
    """

    def __init__(self, target: NDArray[Any], output: NDArray[Any], kind: OutputKind, classes: Sequence[str]) -> None:
        if len(classes) < 2:
            raise InvalidInput(f"Found the classes {list(classes)}, expected two or more.")
        self.kind = kind
        self.classes = len(classes)
        self.infos = infos_of("classification", classes)
        self.target = class_codes(target, classes)
        self.proba: FloatArray | None = None
        self.score: FloatArray | None = None
        self.predicted: NDArray[np.intp] | None = None
        if kind == "proba":
            self._take_proba(output, classes)
        elif kind == "label":
            self.missing = _no_label(output)
            filled = np.where(self.missing, classes[0], output) if self.missing.any() else output
            self.predicted = class_codes(filled, classes, "prediction")
        else:
            if output.ndim != 1 or self.classes != 2:
                raise InvalidInput(
                    f"Found scores of shape {output.shape} for {self.classes} classes; a score a row ranks two "
                    f"classes. Give probabilities instead."
                )
            score = np.asarray(output, dtype=np.float64)
            self.missing = np.isnan(score)
            self.score = np.where(self.missing, 0.0, score)

    def _take_proba(self, output: NDArray[Any], classes: Sequence[str]) -> None:
        proba = np.asarray(output, dtype=np.float64)
        if proba.shape != (self.target.size, self.classes):
            raise InvalidInput(
                f"Found probabilities of shape {proba.shape}, expected ({self.target.size}, {self.classes}): "
                f"a row a target and a column for each of the classes {', '.join(classes[:12])}."
            )
        self.missing = np.asarray(~np.isfinite(proba).all(axis=1))
        if self.missing.any():
            proba = np.where(self.missing[:, None], 1 / self.classes, proba)
        outside = (proba < -1e-6).any(axis=1) | (np.abs(proba.sum(axis=1) - 1) > 1e-3)
        if outside.any():
            row = int(np.argmax(outside))
            raise InvalidInput(
                f"Row {row} has the probabilities {proba[row].tolist()}; expected numbers in [0, 1] that sum to 1."
            )
        self.proba = np.clip(proba, 0.0, 1.0)
        self.predicted = self.proba.argmax(axis=1)

    def absent(self) -> str:
        return f"undefined: the version gives {'labels' if self.kind == 'label' else 'scores'}, no probabilities"

    def measure(self, partition: Partition, level: float, names: Iterable[str]) -> dict[str, Measurement]:
        wanted = set(names)
        found: dict[str, Measurement] = {}
        if self.predicted is not None and wanted & _COUNTED:
            found |= confusion(partition, self.target, self.predicted, self.classes, level)
        if "roc_auc" in wanted and (self.proba is not None or self.score is not None):
            found["roc_auc"] = roc_auc(partition, *self._rankings, level)
        if self.proba is not None:
            for info in self.infos:
                if info.name in wanted & {"log_loss", "brier"}:
                    found[info.name] = means.mean(partition, self.values(info.name), level, info.low, info.high)
            if "calibration_error" in wanted:
                found["calibration_error"] = calibration_error(partition, *self._stated, level)
        return {name: found[name] for name in wanted & found.keys()}

    @cached_property
    def _rankings(self) -> tuple[list[FloatArray], list[NDArray[np.bool_]], list[NDArray[np.intp]]]:
        """Scores, membership and orders, one a class; of class 1 alone for two classes."""
        if self.proba is None:
            assert self.score is not None
            scores = [self.score]
        else:
            columns = [1] if self.classes == 2 else range(self.classes)
            scores = [np.ascontiguousarray(self.proba[:, c]) for c in columns]
        of = [1] if self.classes == 2 else list(range(self.classes))
        return scores, [self.target == c for c in of], [np.argsort(score) for score in scores]

    @cached_property
    def _stated(self) -> tuple[FloatArray, NDArray[np.bool_], NDArray[np.intp]]:
        """The stated probability, whether it came true, and the order by it."""
        assert self.proba is not None
        assert self.predicted is not None
        if self.classes == 2:
            scores, positives, orders = self._rankings
            return scores[0], positives[0], orders[0]
        stated = self.proba[np.arange(self.target.size), self.predicted]
        return stated, self.predicted == self.target, np.argsort(stated)

    def values(self, name: str) -> FloatArray:
        if name == "accuracy":
            assert self.predicted is not None
            return np.asarray(self.predicted == self.target, dtype=np.float64)
        assert self.proba is not None
        return classification_values(name, self.target, self.proba)

    def calibration_bins(self, partition: Partition) -> Bins:
        """What the calibration error is made from, for differences between versions."""
        return find_bins(partition, *self._stated)


def _no_label(output: NDArray[Any]) -> NDArray[np.bool_]:
    if output.dtype.kind == "f":
        return np.asarray(np.isnan(output))
    if output.dtype.kind == "O":
        return np.fromiter((v is None or v != v for v in output.tolist()), dtype=bool, count=output.shape[0])
    return np.zeros(output.shape[0], dtype=bool)
