"""Ranking metrics of each user: nDCG, reciprocal rank and recall, with ties broken at random on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.evaluation.metrics import cutoff
from lepton_plugins.evaluation.partition import tally, unit_numbers

FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class Rankings:
    """The rows of n lists (users), sorted by list and then by falling score.

    `first` (lists,) is the row in the input that each list appears with first; only lists with something
    relevant count, in that order. The rest is by sorted row.
    """

    first: NDArray[np.intp]
    relevance: FloatArray
    list_of_row: NDArray[np.intp]
    start: NDArray[np.intp]
    tie_of_row: NDArray[np.intp]
    tie_start: NDArray[np.intp]
    tie_size: NDArray[np.intp]


def unit_rows(target: NDArray[Any], groups: NDArray[Any]) -> NDArray[np.intp]:
    """The first row of each list that has something relevant (target > 0), in the order of the rows.

    The row metrics of a ranking have one entry a list, in this order.
    """
    first, list_of_row = _lists(groups)
    relevant = tally(list_of_row, np.asarray(target, np.float64) > 0, first.size) > 0
    return first[relevant]


def _lists(groups: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First rows and each row's list, lists numbered by their first row."""
    list_of_row = unit_numbers(groups)
    return np.unique(list_of_row, return_index=True)[1], list_of_row


def rankings(target: NDArray[Any], score: FloatArray, groups: NDArray[Any]) -> Rankings:
    """Relevance `target` ≥ 0 (n,), `score` (n,), higher first, and the list `groups` (n,) of each row."""
    relevance = np.asarray(target, dtype=np.float64)
    first, list_of_row = _lists(groups)
    keep = tally(list_of_row, relevance > 0, first.size) > 0
    number = np.cumsum(keep) - 1
    kept = np.flatnonzero(keep[list_of_row])
    rows = kept[np.lexsort((-score[kept], list_of_row[kept]))]
    of = number[list_of_row[rows]]
    new_list = np.ones(rows.size, dtype=bool)
    new_list[1:] = of[1:] != of[:-1]
    new_tie = new_list.copy()
    new_tie[1:] |= score[rows][1:] != score[rows][:-1]
    start = np.flatnonzero(new_list)
    tie_start = np.flatnonzero(new_tie)
    return Rankings(
        first=first[keep],
        relevance=relevance[rows],
        list_of_row=of,
        start=start,
        tie_of_row=np.cumsum(new_tie) - 1,
        tie_start=tie_start,
        tie_size=np.diff(np.append(tie_start, rows.size)),
    )


def by_list(metric: str, lists: Rankings) -> FloatArray:
    """The metric (`ndcg@k`, `mrr`, `recall@k`) of each list, (lists,); within a tie, its expected value
    under a random order (as scikit-learn's nDCG has it), so that the order of the rows has no say.
    """
    if metric == "mrr":
        return _reciprocal_rank(lists)
    k = cutoff(metric)
    rank = np.arange(lists.relevance.size) - lists.start[lists.list_of_row]
    family = metric.partition("@")[0]
    if family == "recall":
        weight = (rank < k).astype(np.float64)
        gain = (lists.relevance > 0).astype(np.float64)
        total = _sum(lists, gain)
    else:
        weight = np.where(rank < k, 1 / np.log2(rank + 2), 0.0)
        gain = lists.relevance
        ideal = np.lexsort((-gain, lists.list_of_row))
        total = _sum(lists, gain[ideal] * weight)
    expected = (np.add.reduceat(weight, lists.tie_start) / lists.tie_size)[lists.tie_of_row] if rank.size else weight
    return _sum(lists, gain * expected) / total


def _sum(lists: Rankings, values: FloatArray) -> FloatArray:
    return tally(lists.list_of_row, values, lists.start.size)


def _reciprocal_rank(lists: Rankings) -> FloatArray:
    """E[1 / rank of the first relevant row]. In a tie of t rows, r of them relevant, that starts after s
    rows, the first relevant row stands at s + j with P(J ≥ j) = C(t - j + 1, r) / C(t, r).
    """
    if not lists.start.size:
        return np.zeros(0)
    relevant = np.add.reduceat((lists.relevance > 0).astype(np.intp), lists.tie_start)
    list_of_tie = lists.list_of_row[lists.tie_start]
    ties = np.flatnonzero(relevant)
    ties = ties[np.unique(list_of_tie[ties], return_index=True)[1]]  # the first of each list
    t, r = lists.tie_size[ties], relevant[ties]
    s = lists.tie_start[ties] - lists.start[list_of_tie[ties]]

    owner = np.repeat(np.arange(ties.size), t)
    j = np.arange(owner.size) - np.repeat(np.cumsum(t) - t, t) + 1
    factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, t.max() + 1)))))

    def at_least(j: NDArray[np.intp]) -> FloatArray:
        left, need, size = t[owner] - j + 1, r[owner], t[owner]
        possible = left >= need
        left = np.where(possible, left, need)
        logarithm = factorial[left] - factorial[left - need] - factorial[size] + factorial[size - need]
        return np.where(possible, np.exp(logarithm), 0.0)

    chance = at_least(j) - at_least(j + 1)
    return tally(owner, chance / (s[owner] + j), ties.size)
