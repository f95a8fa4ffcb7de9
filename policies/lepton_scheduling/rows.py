"""The rows of an allocation problem as a program: those of `AllocationProblem`, in the same words.

Rows of limits are divided by the limit, so that bytes and cores are of the same size to the solver.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import RESOURCES, FloatArray, least_replicas, lost_rate, replica_use, required_of
from lepton_scheduling.cliques import cliques
from lepton_scheduling.columns import Columns

#: A replica that fills more than a half, a third, a quarter of a node: at most 1, 2, 3 of them fit on it.
_PARTS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Rows:
    """`count` rows of the program, low ≤ matrix · columns ≤ high; the matrix as values at (row, column)."""

    name: str
    value: FloatArray
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    count: int
    low: FloatArray
    high: FloatArray


def rows_of(columns: Columns, limits: dict[str, float]) -> Iterator[Rows]:
    """All rows, by name: `segments`, `runs`, the limits, `conflicts`, `min_share`, and those of the pools."""
    problem, cells = columns.problem, np.arange(columns.cells)
    ones, segments = np.ones(columns.cells), len(problem.segments)
    yield _rows("segments", ones, columns.segment, cells, segments, low=1.0, high=1.0)
    value, row = np.r_[ones, -ones], np.r_[cells, cells]
    yield _rows("runs", value, row, np.r_[cells, columns.cells + columns.version], columns.cells, high=0.0)
    for resource, limit in limits.items():
        yield _limit(resource, columns.use(resource), limit)
    yield from _conflicts(columns)
    yield from _least_share(columns)
    if problem.pools:
        yield from _replicas(columns)
        yield from _nodes(columns)
        yield from _pool_budgets(columns)
        yield from _moves(columns)


def _rows(
    name: str,
    value: FloatArray,
    row: NDArray[np.intp],
    column: NDArray[np.intp],
    count: int,
    *,
    low: float | FloatArray = -np.inf,
    high: float | FloatArray = np.inf,
) -> Rows:
    sides = np.broadcast_to(low, (count,)), np.broadcast_to(high, (count,))
    return Rows(name, value, row, column, count, *sides)


def _limit(name: str, use: FloatArray, limit: float) -> Rows:
    scale, column = limit or 1.0, np.flatnonzero(use)
    return _rows(name, use[column] / scale, np.zeros_like(column), column, 1, high=limit / scale)


def _conflicts(columns: Columns) -> Iterator[Rows]:
    """Σ xᵢ ≤ 1 over each clique of conflicts."""
    found = cliques(columns.problem.conflicts)
    if found:
        row = np.repeat(np.arange(len(found)), [len(clique) for clique in found])
        column = columns.cells + np.array([version for clique in found for version in clique], dtype=np.intp)
        yield _rows("conflicts", np.ones(len(row)), row, column, len(found), high=1.0)


def _least_share(columns: Columns) -> Iterator[Rows]:
    """Σ_s traffic_s·share_is − min_share·xᵢ ≥ 0 for each version that isn't required."""
    problem = columns.problem
    versions = len(problem.versions)
    if problem.min_share:
        row = np.r_[columns.version, np.arange(versions)]
        value = np.r_[problem.traffic[columns.segment], np.full(versions, -problem.min_share)]
        free = ~required_of(problem)[row]
        yield _rows("min_share", value[free], row[free], np.arange(columns.r)[free], versions, low=0.0)


def _replicas(columns: Columns) -> Iterator[Rows]:
    """demandᵢ + lostᵢ·xᵢ ≤ Σ rate_ib·r_ib, each divided by i's highest rate;  Σ r_ib ≥ leastᵢ·xᵢ."""
    problem = columns.problem
    versions = np.arange(len(problem.versions))
    scale = problem.rate.max(axis=1)
    scale = np.where(scale > 0, scale, 1.0)
    row = np.r_[columns.version, versions, columns.r_version]
    rate = problem.rate[columns.r_version, columns.bin_pool[columns.r_bin]]
    demand = problem.demand * problem.traffic[columns.segment]
    value = np.r_[demand, lost_rate(problem), -rate] / scale[row]
    every = np.arange(columns.m)
    yield _rows("throughput", value, row, every, len(versions), high=0.0)
    row = np.r_[versions, columns.r_version]
    value = np.r_[-least_replicas(problem).astype(float), np.ones(len(columns.r_version))]
    yield _rows("replicas", value, row, every[columns.cells :], len(versions), low=0.0)


def _nodes(columns: Columns) -> Iterator[Rows]:
    """Σᵢ use_ik·r_ib ≤ capacity_k·(nodes of b), and how many large replicas whole nodes can hold.

    Where all use multiples of a unit, only whole units of a node count. For large replicas a part of a node counts
    by a dual feasible function, u(a) = ⌊(m+1)·a⌋/m for m = 1, 2, 3 (Fekete & Schepers 2001, New classes of fast lower
    bounds for bin packing): no node holds more than u = 1.
    """
    use = replica_use(columns.problem)
    for place in range(len(columns.bin_pool)):
        pool = columns.problem.pools[columns.bin_pool[place]]
        mine = np.flatnonzero(columns.r_bin == place)
        kept: list[FloatArray] = []
        for resource, capacity in enumerate(pool.capacity):
            part = _in_units(use[columns.r_version[mine], resource] / (capacity or 1.0))
            rounded = [] if columns.node_exact else [_rounded(part, parts) for parts in _PARTS]
            for value in (part, *rounded):
                if value.any() and not any((value <= other).all() for other in kept):
                    kept.append(value)
        for value in kept:
            yield _of_nodes(columns, f"pools.{pool.name}", value, mine, place)
        if columns.problem.survive and columns.priced:
            # One replica of a version a node: no fewer nodes than replicas of any one version.
            row, column = np.arange(len(mine)), np.r_[columns.r + mine, np.full(len(mine), columns.n + place)]
            value = np.r_[np.ones(len(mine)), -np.ones(len(mine))]
            yield _rows(f"pools.{pool.name}", value, np.r_[row, row], column, len(mine), high=0.0)


def _of_nodes(columns: Columns, name: str, value: FloatArray, mine: NDArray[np.intp], place: int) -> Rows:
    column, value = columns.r + mine[value != 0], value[value != 0]
    nodes = float(columns.bin_nodes[place])
    if columns.fill is not None:
        value = value / columns.fill[columns.bin_pool[place]]
    if columns.priced:
        column, value, nodes = np.r_[column, columns.n + place], np.r_[value, -1.0], 0.0
    return _rows(name, value, np.zeros_like(column), column, 1, high=nodes)


def _pool_budgets(columns: Columns) -> Iterator[Rows]:
    for index, pool in enumerate(columns.problem.pools):
        on_pool = np.zeros(columns.columns)
        on_pool[columns.r : columns.m] = columns.bin_pool[columns.r_bin] == index
        for resource in RESOURCES:
            limit = getattr(pool.budget, resource)
            if limit is not None:
                yield _limit(f"pools.{pool.name}.budget.{resource}", on_pool * columns.use(resource), limit)


def _moves(columns: Columns) -> Iterator[Rows]:
    """Σ_b r_ib − m_ip ≤ in_force_ip, b the bins of p."""
    if not len(columns.m_version) or columns.problem.in_force is None:
        return
    number = np.full(columns.problem.rate.shape, -1)
    number[columns.m_version, columns.m_pool] = np.arange(len(columns.m_version))
    row = np.r_[number[columns.r_version, columns.bin_pool[columns.r_bin]], np.arange(len(columns.m_version))]
    value = np.r_[np.ones(len(columns.r_version)), -np.ones(len(columns.m_version))]
    high = columns.problem.in_force[columns.m_version, columns.m_pool].astype(float)
    yield _rows("moves", value, row, np.arange(columns.r, columns.n), len(columns.m_version), high=high)


def _in_units(part: FloatArray) -> FloatArray:
    """k/⌊1/u⌋ where all parts are k·u of a node, k = 0, 1, 2 …; else as they are."""
    unit = float(part.min(initial=np.inf, where=part > 0))
    if not np.isfinite(unit) or unit > 1:
        return part
    multiple = part / unit
    whole: FloatArray = np.round(multiple)
    return part if (np.abs(multiple - whole) > 1e-9 * multiple).any() else whole / np.floor(1 / unit + 1e-9)


def _rounded(part: FloatArray, parts: int) -> FloatArray:
    """⌊(m+1)·a⌋/m; a itself where (m+1)·a is whole."""
    scaled = (parts + 1) * part
    whole = np.abs(scaled - np.round(scaled)) < 1e-9
    rounded: FloatArray = np.where(whole, part, np.floor(scaled) / parts)
    return rounded
