"""Paired evidence whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.records.report import Dataset

Make = Callable[..., PairedPredictions]


@pytest.fixture(scope="session")
def paired_of() -> Make:
    """A loss by row: `0.6 - gains[version][segment]` plus noise, half of it common to all versions."""

    def make(
        gains: Sequence[Sequence[float]],
        *,
        rows: int = 4000,
        seed: int = 0,
        noise: float = 0.3,
        probabilities: Sequence[float] | None = None,
        groups: np.ndarray | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> PairedPredictions:
        rng = np.random.default_rng(seed)
        truth = np.asarray(gains, dtype=np.float64)
        versions, count = truth.shape
        segment = rng.choice(count, rows, p=probabilities)
        common = rng.normal(0, noise, (rows, 1))
        if groups is not None:
            # A group's rows share half of what tells the versions apart.
            own = rng.normal(0, noise, (int(groups.max()) + 1, versions))[groups] + rng.normal(
                0, noise, (rows, versions)
            )
        else:
            own = rng.normal(0, noise, (rows, versions))
        values = 0.6 - truth[:, segment].T + common + own
        names = np.array([f"s{i:03d}" for i in range(count)], dtype=object)
        return PairedPredictions(
            dataset=Dataset(name="made", digest="sha256:0", rows=rows),
            task="regression",
            metric="mse",
            greater_is_better=False,
            baseline=0.6,
            versions=[str(i + 1) for i in range(versions)],
            default=0,
            values=values,
            utility=1 - values / 1.2,
            target=np.zeros(rows),
            outputs=[values[:, i] for i in range(versions)],
            columns={"segment": names[segment], **(extra or {})},
            groups=groups,
        )

    return make
