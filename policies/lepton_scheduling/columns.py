"""The columns of an allocation problem as a program: which there are, what they use and are worth, what they say.

Columns, in this order:

    share_is   one for each (segment, version) that is allowed          in [0, 1]
    xᵢ         whether the version runs                                  0 or 1
    r_ib       replicas of a version in a bin, where it can run there    0, 1, 2 …
    m_ip       replicas started on a pool that aren't in force there     ≥ 0, where starting has a price
    n_b        nodes used of a bin                                       0, 1, 2 …, where a node has a price

A bin is a pool as a whole (replicas are counted, packing them onto nodes comes after), or a single node
(`node_exact`: then no packing is left to do).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import RESOURCES, AllocationProblem, FloatArray, IntArray, replica_use
from lepton_scheduling.fit import placeable

#: Below this a share is HiGHS' integrality tolerance (1e-6), not traffic.
_NOTHING = 2e-6


@dataclass(slots=True)
class Columns:
    """Where each column is, and of what."""

    problem: AllocationProblem
    node_exact: bool = False
    fill: FloatArray | None = None
    """The part of each pool's nodes that is planned on, where the counts have to leave room to be packed."""
    segment: NDArray[np.intp] = field(init=False)
    """Of each share column."""
    version: NDArray[np.intp] = field(init=False)
    bin_pool: NDArray[np.intp] = field(init=False)
    """Each bin's pool."""
    bin_nodes: IntArray = field(init=False)
    """How many nodes a bin has."""
    r_version: NDArray[np.intp] = field(init=False)
    """Of each replica column."""
    r_bin: NDArray[np.intp] = field(init=False)
    m_version: NDArray[np.intp] = field(init=False)
    m_pool: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        problem = self.problem
        self.segment, self.version = np.nonzero(problem.allowed)
        counts = np.array([pool.nodes for pool in problem.pools], dtype=np.int64)
        places = np.arange(len(counts))
        self.bin_pool = np.repeat(places, counts) if self.node_exact else places
        self.bin_nodes = np.ones(len(self.bin_pool), dtype=np.int64) if self.node_exact else counts
        can = placeable(problem)
        self.r_version, self.r_bin = np.nonzero(can[:, self.bin_pool])
        starts = can if problem.move and problem.in_force is not None else np.zeros((0, 0))
        self.m_version, self.m_pool = np.nonzero(starts)

    @property
    def cells(self) -> int:
        return len(self.segment)

    @property
    def r(self) -> int:
        """The first replica column."""
        return self.cells + len(self.problem.versions)

    @property
    def m(self) -> int:
        return self.r + len(self.r_version)

    @property
    def n(self) -> int:
        return self.m + len(self.m_version)

    @property
    def columns(self) -> int:
        return self.n + (len(self.bin_pool) if self.priced else 0)

    @property
    def priced(self) -> bool:
        return self.problem.price > 0 and any(pool.price for pool in self.problem.pools)

    def use(self, resource: str) -> FloatArray:
        """What each column uses of a resource, of `versions` or of `late`, shape (columns,), in its own unit."""
        problem = self.problem
        use = np.zeros(self.columns)
        versions = slice(self.cells, self.r)
        if resource == "versions":
            use[versions] = 1.0
        elif resource == "late":
            use[: self.cells] = problem.traffic[self.segment] * problem.late[self.version]
        elif problem.pools:
            use[self.r : self.m] = replica_use(problem)[self.r_version, RESOURCES.index(resource)]
        elif resource == "cpu":
            use[: self.cells] = problem.demand * problem.traffic[self.segment] * problem.cpu[self.version]
        else:
            use[versions] = getattr(problem, resource)
        return use

    def mixture(self) -> FloatArray:
        """Each column's part in Σ_s traffic_s Σᵢ share_is·wᵢ·P_is, less each segment's lowest wᵢ·P_is, less costs.

        The constant changes no answer, but a relative gap then speaks of what routing can win, not of a
        sum that is mostly the same whatever is chosen.
        """
        problem = self.problem
        worth = problem.weights[None, :] * problem.utility
        floor = np.where(problem.allowed, worth, np.inf).min(axis=1)
        part = -self.costs()
        part[: self.cells] += problem.traffic[self.segment] * (worth[self.segment, self.version] - floor[self.segment])
        return part

    def select(self) -> FloatArray:
        """Each column's part in Σᵢ xᵢ·wᵢ·Pᵢ with Pᵢ = Σ_s traffic_s·P_is, less costs."""
        problem = self.problem
        part = -self.costs()
        part[self.cells : self.r] += problem.weights * (problem.traffic @ problem.utility)
        return part

    def costs(self) -> FloatArray:
        """price · price_p for a node that is used, move for a replica that is started."""
        problem = self.problem
        part = np.zeros(self.columns)
        part[self.m : self.n] = problem.move
        prices = np.array([pool.price for pool in problem.pools])
        if self.priced:
            part[self.n :] = problem.price * prices[self.bin_pool]
        return part

    # --- the way back ----------------------------------------------------------------------------

    def shares(self, x: FloatArray) -> FloatArray:
        """The solution's shares (segments, versions), free of the solver's tolerances."""
        shares = np.zeros(self.problem.allowed.shape)
        shares[self.segment, self.version] = np.where(x[: self.cells] < _NOTHING, 0.0, x[: self.cells])
        total: FloatArray = shares / shares.sum(axis=1, keepdims=True)
        return total

    def in_bins(self, x: FloatArray) -> IntArray:
        """The solution's replicas (versions, bins)."""
        found = np.zeros((len(self.problem.versions), len(self.bin_pool)), dtype=np.int64)
        found[self.r_version, self.r_bin] = np.round(x[self.r : self.m]).astype(np.int64)
        return found

    def in_pools(self, x: FloatArray) -> IntArray:
        """The solution's replicas (versions, pools)."""
        held, pools = self.in_bins(x), range(len(self.problem.pools))
        if not self.node_exact:
            return held
        return np.stack([held[:, self.bin_pool == index].sum(axis=1) for index in pools], axis=1)
