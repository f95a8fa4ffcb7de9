"""Small allocation problems, and their optimum by trying everything."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from lepton_plugins.planning.solver import AllocationProblem, NodePool, keeps, replica_use, used_by
from lepton_plugins.records.resources import Budget
from lepton_scheduling.outcome import chosen_worth


def problem_of(seed: int, versions: int = 5, segments: int = 3, form: str = "mixture", **changes) -> AllocationProblem:
    rng = np.random.default_rng(seed)
    allowed = rng.random((segments, versions)) < 0.8
    allowed[:, 0] = True
    facts = {
        "versions": [str(i + 1) for i in range(versions)],
        "segments": [f"s{i}" for i in range(segments)],
        "traffic": rng.dirichlet(np.ones(segments)),
        "utility": rng.uniform(0.3, 0.7, (segments, versions)),
        "weights": np.ones(versions) if seed % 2 else rng.uniform(0.5, 1.5, versions),
        "allowed": allowed,
        "cpu": rng.uniform(0.001, 0.02, versions),
        "memory": rng.uniform(1e8, 4e9, versions),
        "gpu": (rng.random(versions) < 0.4).astype(float),
        "gpu_memory": np.zeros(versions),
        "budget": Budget(cpu=rng.uniform(0.5, 1.5), memory=int(rng.uniform(3e9, 8e9)), gpu=1),
        "load": 100.0,
        "required": np.eye(versions, dtype=bool)[0],
        "form": form,
        "gap": 0.0,
    }
    return AllocationProblem(**(facts | changes))


def constrained_of(seed: int) -> AllocationProblem:
    """Four versions; by seed with conflicts, at most so many versions, a minimum share, nothing required."""
    rng = np.random.default_rng(10_000 + seed)
    pairs = [(a, b) for a in range(4) for b in range(a) if rng.random() < 0.3]
    changes = {
        "conflicts": pairs if seed % 3 else [],
        "max_versions": int(rng.integers(1, 4)) if seed % 4 == 1 else None,
        "min_share": float(rng.uniform(0.05, 0.4)) if seed % 5 < 2 else 0.0,
    }
    if seed % 6 == 2:
        changes |= {"late": rng.choice([0.0, 0.01, 0.05, 0.2], 4), "most_late": float(rng.uniform(0.005, 0.06))}
    if seed % 7 < 3:
        changes["required"] = np.zeros(4, dtype=bool)
    return problem_of(seed, 4, 1 + seed % 3, "select" if seed % 2 else "mixture", **changes)


def brute_force(problem: AllocationProblem) -> float | None:
    """The best objective over every set of versions; the shares of each set by a linear program of its own."""
    segments, versions = problem.allowed.shape
    best: tuple[float, float] | None = None
    for pattern in product([False, True], repeat=versions):
        runs = np.array(pattern)
        if (problem.required & ~runs).any() or any(runs[a] and runs[b] for a, b in problem.conflicts):
            continue
        if (runs & ~problem.required & ~problem.allowed.any(axis=0)).any():
            continue
        if problem.max_versions is not None and runs.sum() > problem.max_versions:
            continue
        fixed = used_by(problem, np.zeros((segments, versions)), runs)
        if any(fixed[r] > getattr(problem.budget, r) for r in ("memory", "gpu")):
            continue
        usable = problem.allowed & runs
        if not usable.any(axis=1).all():
            continue
        worth = (problem.traffic[:, None] * problem.utility * problem.weights).ravel()
        whole = np.kron(np.eye(segments), np.ones(versions))
        cpu = (problem.load * problem.traffic[:, None] * problem.cpu[None, :]).reshape(1, -1)
        free = np.flatnonzero(runs & ~problem.required)
        parts = -np.kron(problem.traffic, np.eye(versions))[free]
        if problem.most_late is not None:
            cpu = np.vstack([cpu, (problem.traffic[:, None] * problem.late[None, :]).reshape(1, -1)])
        limits = [problem.budget.cpu, problem.most_late][: len(cpu)]
        result = linprog(
            -worth,
            A_ub=np.vstack([cpu, parts]),
            b_ub=np.r_[limits, np.full(len(free), -problem.min_share)],
            A_eq=whole,
            b_eq=np.ones(segments),
            bounds=[(0, float(ok)) for ok in usable.ravel()],
        )
        if result.status == 0:
            key = (chosen_worth(problem, runs), -result.fun) if problem.form == "select" else (-result.fun, 0.0)
            best = key if best is None else max(best, key)
    return None if best is None else best[0]


def assert_kept(problem: AllocationProblem, solution) -> None:
    """An allocation that may be used: whole, allowed, within every limit, its figures its own."""
    assert np.allclose(solution.shares.sum(axis=1), 1)
    assert (solution.shares >= 0).all()
    assert not solution.shares[~problem.allowed].any()
    assert not solution.shares[:, ~solution.runs].any()
    assert not (problem.required & ~solution.runs).any()
    assert keeps(problem, solution.shares, solution.runs, tolerance=1e-6)
    assert solution.bound >= solution.objective
    worth = float(problem.traffic @ (solution.shares * problem.utility) @ problem.weights)
    own = chosen_worth(problem, solution.runs) if problem.form == "select" else worth
    assert solution.objective == pytest.approx(own, abs=1e-9)


@pytest.fixture(scope="session")
def new_problem() -> Callable[..., AllocationProblem]:
    return problem_of


@pytest.fixture(scope="session")
def kept() -> Callable[..., None]:
    return assert_kept


@pytest.fixture(scope="session")
def small_problems() -> list[tuple[AllocationProblem, float | None]]:
    """Two hundred small problems with their optimum, None where there is no allocation."""
    problems = [constrained_of(seed) for seed in range(200)]
    return [(problem, brute_force(problem)) for problem in problems]


def pooled_of(seed: int, **changes) -> AllocationProblem:
    """Three versions on two small pools; by seed with prices, a plan in force, a node that may be lost, budgets."""
    rng = np.random.default_rng(20_000 + seed)
    versions, segments = 3, 1 + seed % 2
    gpu = (rng.random(versions) < 0.3).astype(float)
    pools = [
        NodePool("small", int(rng.integers(1, 3)), (2.0, 4.0, 0.0, 0.0), price=1.0),
        NodePool("large", int(rng.integers(1, 3)), (4.0, 6.0, float(rng.integers(0, 2)), 0.0), price=2.5),
    ]
    rate = np.outer(rng.uniform(30, 120, versions), [1.0, rng.choice([1.0, 1.5])])
    rate[(gpu > 0), 0] = 0.0
    facts = {
        "gpu": gpu,
        "cpu": 1.0 / rate.max(axis=1),
        "cores": rng.choice([1.0, 1.5, 2.0], versions),
        "memory": rng.choice([0.5, 1.5, 2.2, 2.6, 3.4], versions),
        "pools": pools,
        "rate": rate,
        "budget": Budget(memory=10) if seed % 4 == 3 else Budget(),
        "load": float(rng.uniform(60, 200)),
        "headroom": 0.2 if seed % 3 == 0 else 0.0,
        "required": np.eye(versions, dtype=bool)[0] if seed % 2 else np.zeros(versions, dtype=bool),
        "survive": seed % 5 == 4,
        "price": 0.01 if seed % 3 == 1 else 0.0,
        "min_share": 0.2 if seed % 7 == 1 else 0.0,
        "conflicts": [(0, 1)] if seed % 6 == 5 else [],
    }
    if seed % 3 == 2:
        facts |= {"in_force": rng.integers(0, 2, (versions, 2)), "move": 0.02}
    return problem_of(seed, versions, segments, "select" if seed % 8 == 7 else "mixture", **(facts | changes))


def packings(problem: AllocationProblem, pool: int) -> dict[tuple[int, ...], int]:
    """Every count of replicas that a pool's nodes hold, and the fewest nodes that do, by trying all fillings."""
    versions = len(problem.versions)
    use, capacity = replica_use(problem), np.array(problem.pools[pool].capacity)
    most = [0 if problem.rate[i, pool] <= 0 else 1 if problem.survive else 6 for i in range(versions)]
    one = [
        counts
        for counts in product(*(range(top + 1) for top in most))
        if (np.array(counts) @ use <= capacity * (1 + 1e-9)).all()
    ]
    found = {(0,) * versions: 0}
    for nodes in range(1, problem.pools[pool].nodes + 1):
        for held in list(found):
            for counts in one:
                found.setdefault(tuple(a + b for a, b in zip(held, counts, strict=True)), nodes)
    return found


def brute_force_pooled(problem: AllocationProblem) -> float | None:
    """The best objective over every set of versions and every packing of replicas; shares by a linear program."""
    segments, versions = problem.allowed.shape
    prices = [pool.price for pool in problem.pools]
    fillings = [list(packings(problem, pool).items()) for pool in range(len(prices))]
    worth = (problem.traffic[:, None] * problem.utility * problem.weights).ravel()
    lost = np.where(problem.allowed.any(axis=0), problem.rate.max(axis=1), 0.0) * problem.survive
    least = np.where(problem.allowed.any(axis=0) & problem.survive, max(2, problem.min_replicas), problem.min_replicas)
    parts = np.kron(problem.traffic, np.eye(versions))
    solved: dict[tuple, tuple[float, float] | None] = {}
    best: float | None = None
    for (first, one), (second, two) in product(*fillings):
        replicas = np.array([first, second]).T
        count = replicas.sum(axis=1)
        runs = count > 0
        if (count < least * runs).any() or (problem.required & ~runs).any():
            continue
        if any(runs[a] and runs[b] for a, b in problem.conflicts):
            continue
        if problem.budget.memory is not None and count @ problem.memory > problem.budget.memory:
            continue
        borne = np.maximum((problem.rate * replicas).sum(axis=1) - lost * runs, 0.0)
        key = (tuple(runs), tuple(np.minimum(borne, problem.demand)))
        if key not in solved:
            free = np.flatnonzero(runs & ~problem.required)
            result = linprog(
                -worth,
                A_ub=np.vstack([problem.demand * parts, -parts[free]]),
                b_ub=np.r_[borne, np.full(len(free), -problem.min_share)],
                A_eq=np.kron(np.eye(segments), np.ones(versions)),
                b_eq=np.ones(segments),
                bounds=[(0, float(ok)) for ok in (problem.allowed & runs).ravel()],
            )
            solved[key] = None if result.status else (chosen_worth(problem, runs), -result.fun)
        values = solved[key]
        if values is None:
            continue
        cost = problem.price * (one * prices[0] + two * prices[1])
        if problem.in_force is not None:
            cost += problem.move * np.maximum(replicas - problem.in_force, 0).sum()
        value = (values[0] if problem.form == "select" else values[1]) - cost
        best = value if best is None else max(best, value)
    return best


@pytest.fixture(scope="session")
def new_pooled() -> Callable[..., AllocationProblem]:
    return pooled_of


@pytest.fixture(scope="session")
def pooled_problems() -> list[tuple[AllocationProblem, float | None]]:
    """Two hundred small problems with pools and their optimum, packing included; None where there is no allocation."""
    problems = [pooled_of(seed) for seed in range(200)]
    return [(problem, brute_force_pooled(problem)) for problem in problems]
