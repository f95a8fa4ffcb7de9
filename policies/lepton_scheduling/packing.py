"""Replicas onto whole nodes, which none straddles: vector bin packing, fast first, then exact where that is small."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import (
    AllocationProblem,
    FloatArray,
    IntArray,
    NodePool,
    Placement,
    replica_use,
)
from lepton_scheduling.engine import Engine, Model, by_scipy

_ROOM = 1 + 1e-9
#: Kinds of replicas times nodes up to which an exact packing is tried, and seconds for it.
_EXACT, _SECONDS = 600, 1.0
#: That of SciPy's own: less than one node, or one replica, of those that such a packing has.
_GAP = 1e-4


def packed(problem: AllocationProblem, replicas: IntArray, *, engine: Engine = by_scipy) -> tuple[Placement, IntArray]:
    """As many of the replicas (versions, pools) as nodes were found for, and those (versions, pools) left over.

    Best-fit decreasing (Panigrahy et al. 2011, Heuristics for vector bin packing) by several readings of a
    replica's size; where all of them leave some over and the pool is small, by a mixed-integer program.
    """
    use = replica_use(problem)
    nodes, over = [], np.zeros_like(replicas)
    for index, pool in enumerate(problem.pools):
        on_pool = _pack(pool, replicas[:, index], use / _whole(pool), spread=problem.survive, engine=engine)
        nodes.append(on_pool)
        over[:, index] = replicas[:, index] - on_pool.sum(axis=0)
    return Placement(replicas - over, nodes), over


def _whole(pool: NodePool) -> FloatArray:
    capacity = np.array(pool.capacity)
    return np.where(capacity > 0, capacity, 1.0)


def _pack(pool: NodePool, counts: IntArray, part: FloatArray, *, spread: bool, engine: Engine) -> IntArray:
    """What each used node holds, shape (nodes, versions); `part` (versions, RESOURCES) of one node."""
    kinds = np.flatnonzero(counts)
    least = _least_nodes(counts, part, spread=spread)
    best: IntArray | None = None
    for size in (part.max(axis=1), part.sum(axis=1), *part.T[part.any(axis=0)]):
        order = kinds[np.argsort(-size[kinds], kind="stable")]
        found = _best_fit(pool.nodes, order, counts, part, spread=spread)
        if best is None or (found.sum(), -len(found)) > (best.sum(), -len(best)):
            best = found
        if best.sum() == counts.sum() and (not pool.price or len(best) <= least):
            return best
    assert best is not None
    missing = best.sum() < counts.sum()
    if (missing or (pool.price and len(best) > least)) and len(kinds) * pool.nodes <= _EXACT:
        exact = _by_program(pool.nodes, kinds, counts, part, spread=spread, fewest=not missing, engine=engine)
        best = exact if exact is not None else best
    return best


def _least_nodes(counts: IntArray, part: FloatArray, *, spread: bool) -> int:
    """No packing needs fewer nodes than this."""
    filled = int(np.ceil((counts @ part).max() - 1e-9))
    return max(filled, int(counts.max(initial=0)) if spread else 0, int(counts.any()))


def _best_fit(most: int, order: NDArray[np.intp], counts: IntArray, part: FloatArray, *, spread: bool) -> IntArray:
    """Each replica onto the node that it leaves least room on; a new node where it fits on none."""
    held = np.zeros((most, len(counts)), dtype=np.int64)
    room = np.full((most, part.shape[1]), _ROOM)
    used = 0
    for i in order.tolist():
        for _ in range(int(counts[i])):
            fits = (room[:used] >= part[i]).all(axis=1)
            if spread:
                fits &= held[:used, i] == 0
            if fits.any():
                left = np.where(fits, (room[:used] - part[i]).sum(axis=1), np.inf)
                node = int(left.argmin())
            elif used < most and (part[i] <= _ROOM).all():
                node, used = used, used + 1
            else:
                break
            held[node, i] += 1
            room[node] -= part[i]
    return held[:used]


def _by_program(
    most: int,
    kinds: NDArray[np.intp],
    counts: IntArray,
    part: FloatArray,
    *,
    spread: bool,
    fewest: bool,
    engine: Engine,
) -> IntArray | None:
    """The packing that places most replicas, or all on the fewest nodes; None where time was up before."""
    from scipy.sparse import csr_array, eye_array, hstack, kron, vstack

    count = len(kinds)
    resources = part[kinds][:, part[kinds].any(axis=0)]
    # Columns: replicas of each kind on each node, node by node; then whether each node is used.
    held = kron(eye_array(most), csr_array(resources.T))
    opened = kron(eye_array(most), csr_array(-np.ones((resources.shape[1], 1))))
    each = hstack([kron(csr_array(np.ones((1, most))), eye_array(count)), csr_array((count, most))])
    upper = np.minimum(counts[kinds], 1) if spread else counts[kinds]
    total = counts[kinds].astype(float)
    worth = np.r_[np.full(count * most, 0.0 if fewest else 1.0), np.full(most, -1.0 if fewest else -1e-3 / most)]
    matrix = vstack([hstack([held, opened]), each], format="csc")
    room = matrix.shape[0] - count
    model = Model(
        worth,
        matrix,
        low=np.r_[np.full(room, -np.inf), total if fewest else np.zeros(count)],
        high=np.r_[np.zeros(room), total],
        lower=np.zeros(len(worth)),
        upper=np.r_[np.tile(upper, most), np.ones(most)].astype(float),
        whole=np.ones(len(worth), dtype=bool),
    )
    result = engine(model, _SECONDS, _GAP)
    if result.x is None:
        return None
    found = np.zeros((most, len(counts)), dtype=np.int64)
    found[:, kinds] = np.round(result.x[: count * most]).astype(np.int64).reshape(most, count)
    return found[found.any(axis=1)]
