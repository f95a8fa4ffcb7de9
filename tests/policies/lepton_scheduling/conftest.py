"""Small allocation problems, and their optimum by trying everything."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from lepton_plugins.planning.solver import AllocationProblem, keeps, used_by
from lepton_plugins.records.spec import Budget
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
        result = linprog(
            -worth,
            A_ub=np.vstack([cpu, parts]),
            b_ub=np.r_[problem.budget.cpu, np.full(len(free), -problem.min_share)],
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
