"""F1 of a mixture: from summed counts, proved by an exact solver, and a plan's own objective."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog
from sklearn.metrics import f1_score

from lepton_plugins.errors import LeptonError, PolicyUnfit
from lepton_plugins.evaluation import ratio
from lepton_plugins.planning.fractional import Fractional
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.solver import AllocationProblem, keeps
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.plugins import plugins
from lepton_plugins.records.resources import Budget


def counted(seed: int, versions: int = 4, segments: int = 3) -> tuple[AllocationProblem, np.ndarray, np.ndarray]:
    """Versions with counts by segment, 2·tp and 2·tp + fp + fn as parts of the rows, under a budget."""
    rng = np.random.default_rng(seed)
    positive = rng.uniform(0.1, 0.5, (segments, 1))
    tp = positive * rng.uniform(0.2, 0.9, (segments, versions))
    under = positive + tp + (1 - positive) * rng.uniform(0.0, 0.4, (segments, versions))
    allowed = rng.random((segments, versions)) < 0.8
    allowed[:, 0] = True
    return (
        AllocationProblem(
            versions=[str(i) for i in range(versions)],
            segments=[f"s{i}" for i in range(segments)],
            traffic=rng.dirichlet(np.ones(segments)),
            utility=np.zeros((segments, versions)),
            weights=np.ones(versions),
            allowed=allowed,
            cpu=rng.uniform(0.001, 0.02, versions),
            memory=rng.uniform(1e8, 4e9, versions),
            gpu=np.zeros(versions),
            gpu_memory=np.zeros(versions),
            budget=Budget(cpu=float(rng.uniform(0.8, 1.5)), memory=int(rng.uniform(4e9, 8e9))),
            load=100.0,
            gap=0.0,
        ),
        2 * tp,
        under,
    )


def brute_force(problem: AllocationProblem, over: np.ndarray, under: np.ndarray) -> float | None:
    """The highest F1 over every set of versions; for each by the linear program of Charnes & Cooper (1962)."""
    segments, versions = problem.allowed.shape
    best = None
    traffic = problem.traffic[:, None]
    for pattern in product([False, True], repeat=versions):
        usable = problem.allowed & np.array(pattern)
        if problem.memory @ pattern > problem.budget.memory or not usable.any(axis=1).all():
            continue
        whole = np.hstack([np.kron(np.eye(segments), np.ones(versions)), -np.ones((segments, 1))])
        cpu = (problem.load * traffic * problem.cpu[None, :]).ravel()
        result = linprog(
            -np.r_[(traffic * over).ravel(), 0.0],
            A_ub=np.r_[cpu, -problem.budget.cpu][None],
            b_ub=[0.0],
            A_eq=np.vstack([whole, np.r_[(traffic * under).ravel(), 0.0]]),
            b_eq=np.r_[np.zeros(segments), 1.0],
            bounds=[(0, None if ok else 0) for ok in usable.ravel()] + [(0, None)],
        )
        if result.status == 0:
            best = -result.fun if best is None else max(best, -result.fun)
    return best


def solved(problem: AllocationProblem, over: np.ndarray, under: np.ndarray, solver: str):
    about = ratio.about("f1", over[:, 0], under[:, 0])
    stated = replace(problem, utility=about.rows(over, under))
    return Fractional(stated, about, under).solve(plugins().load("solver", solver)().solve)


@pytest.mark.parametrize("seed", range(12))
def test_an_exact_solver_finds_and_proves_the_highest_f1(seed):
    problem, over, under = counted(seed)
    best = brute_force(problem, over, under)
    if best is None:
        with pytest.raises(LeptonError):
            solved(problem, over, under, "milp")
        return
    found = solved(problem, over, under, "milp")
    assert found.objective == pytest.approx(best, abs=1e-7)
    assert found.status == "optimal"
    assert found.bound >= best - 1e-9
    n, d = (float(problem.traffic @ (found.shares * part).sum(axis=1)) for part in (over, under))
    assert found.objective == pytest.approx(n / d)
    assert keeps(problem, found.shares, found.runs, tolerance=1e-6)
    for heuristic in ("greedy", "genetic"):
        other = solved(problem, over, under, heuristic)
        assert other.objective <= best + 1e-9 <= other.bound + 2e-9
        assert other.objective >= 0.97 * best


def test_the_first_order_is_above_where_f1_is():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 400)
    over, under = ratio.parts("f1", target, np.where(rng.random(400) < 0.8, target, 1 - target))
    about = ratio.about("f1", over, under)
    assert about.rows(over, under).mean() == pytest.approx(about.value)
    for seed in range(20):
        answers = np.where(np.random.default_rng(seed).random(400) < 0.8, target, 1 - target)
        mean = about.rows(*ratio.parts("f1", target, answers)).mean()
        assert (mean > about.value) == (f1_score(target, answers) > about.value)


def spec_of(**changes: object):
    return parse_spec({"model": "flights", "objective": {"metric": "f1"}} | changes)


def test_segments_go_to_the_version_with_which_f1_is_higher(world):
    world.add("1", {"AA": 1.0, "B6": 1.0, "DL": 0.05, "UA": 0.05}, aliases=("champion",))
    world.add("2", {"AA": 0.05, "B6": 0.05, "DL": 1.0, "UA": 1.0})
    policy = {"kind": "segment_best", "params": {"by": ["carrier"]}}
    made = make_plan(world.registry, spec_of(policy=policy))
    shown = {item.segment: item.shares for item in made.segments}
    assert shown["AA"] == {"1": 1.0}
    assert shown["UA"] == {"2": 1.0}
    assert made.plan.gain is not None
    assert made.plan.gain.metric == "f1"
    assert made.plan.gain.low > 0
    assert "first order" in made.plan.gain.method
    assert made.plan.allocation.status == "optimal"


def test_shares_under_a_budget_are_the_f1_of_summed_counts(split_world):
    made = make_plan(split_world.registry, spec_of(resources={"budget": {"cpu": 1}, "load": "500/s"}))
    truth = split_world.frame["late"].to_numpy() == "yes"
    says = {v: pd.read_parquet(split_world.registry.files[v])["proba_yes"].to_numpy() > 0.5 for v in ("1", "2", "3")}
    over = sum(arm.share * 2 * (truth & says[arm.version]).sum() for arm in made.plan.arms)
    under = sum(arm.share * (truth.sum() + says[arm.version].sum()) for arm in made.plan.arms)
    assert made.plan.allocation.objective == pytest.approx(over / under, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": {"metric": "f1", "weights": {1: 1, 2: 1, 3: 0.5}}}, "form: mixture without weights"),
        ({"objective": {"metric": "f1", "form": "select"}}, "found form: select beside metric: f1"),
        ({"objective": {"metric": "roc_auc"}}, r"not a mean over rows.* f1"),
    ],
)
def test_what_f1_has_no_meaning_for_is_said(changes, said, split_world):
    with pytest.raises(LeptonError, match=said):
        make_plan(split_world.registry, spec_of(**changes))


def test_who_learns_from_labels_needs_a_metric_of_one_row(split_world):
    with pytest.raises(PolicyUnfit, match="one label gives a value"):
        make_plan(split_world.registry, spec_of(policy="thompson"))
