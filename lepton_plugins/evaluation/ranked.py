"""Ranking: every metric in every slice, by user."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InvalidInput
from lepton_plugins.evaluation import means
from lepton_plugins.evaluation.measurement import Measurement
from lepton_plugins.evaluation.partition import Partition
from lepton_plugins.evaluation.ranking import by_list, rankings
from lepton_plugins.evaluation.scored import Scored, infos_of

FloatArray = NDArray[np.float64]


class Ranking(Scored):
    """Relevance (n,) ≥ 0 and score (n,) of each row; the partition's units are the users.

    A metric is the mean over users: n counts those with something relevant in the slice. A user's rows
    in a slice are a list of their own.
    """

    needs_groups = True

    def __init__(self, target: NDArray[Any], output: NDArray[Any]) -> None:
        self.target = np.asarray(target, dtype=np.float64)
        if self.target.ndim != 1 or not (self.target >= 0).all():
            raise InvalidInput("The target of a ranking is a relevance a row, 0 or greater; found other values.")
        if output.ndim != 1:
            raise InvalidInput(f"Found scores of shape {output.shape}, expected one a row.")
        score = np.asarray(output, dtype=np.float64)
        self.infos = infos_of("ranking", ())
        self.missing = np.isnan(score)
        self.score = np.where(self.missing, 0.0, score)

    def measure(self, partition: Partition, level: float, names: Iterable[str]) -> dict[str, Measurement]:
        found = {}
        for name in names:
            values, users = self.by_user(name, partition)
            found[name] = means.mean(users, values, level, 0.0, 1.0)
            found[name].method = means.METHOD.replace("rows", "users with something relevant")
            found[name].undefined = "no user has anything relevant"
        return found

    def values(self, name: str) -> FloatArray:
        raise InvalidInput(f"{name} has a value for each user, none for a row.")

    def by_user(self, name: str, partition: Partition) -> tuple[FloatArray, Partition]:
        """The metric of each list, and the lists' slices. Which lists there are depends on the targets only."""
        if partition.unit_of_row is None:
            raise InvalidInput("A ranking needs the user of each row. Name the user column (group).")
        lists = rankings(self.target, self.score, partition.unit_of_row)
        return by_list(name, lists), Partition(partition.codes[lists.first], partition.size)
