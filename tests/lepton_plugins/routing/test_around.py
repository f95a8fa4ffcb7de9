"""What stands around a policy: no request is lost, and the explanation shows the whole stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton_plugins.routing.router import Router
from lepton_plugins.routing.shadow import difference


@pytest.fixture(scope="module")
def failing_routers(
    tmp_path_factory: pytest.TempPathFactory, linear_files: dict[str, Path], build_directory: Any, weighted_policy: Any
) -> Any:
    """Version 1 always answers; 2 and 3 fail, or give NaN, for rows with negative x0."""
    made = []
    for one, other in (("nan", "fails"), ("fails", "fails"), ("nan", "nan")):
        models = {"1": linear_files["1"], "2": linear_files[one], "3": linear_files[other]}
        policy = weighted_policy({"1": 0.2, "2": 0.4, "3": 0.4})
        directory = build_directory(
            tmp_path_factory.mktemp("around") / "deployment",
            models,
            policy=policy,
            around={"fallback": "3", "shadow": [], "holdout": 0.1, "explore": 0.1, "breaker": {"failures": 3}},
        )
        made.append(Router.load(directory))
    yield made
    for router in made:
        router.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 2), signs=st.lists(st.booleans(), min_size=1, max_size=30), seed=st.integers(0, 10**6))
def test_no_request_is_lost(failing_routers: Any, positive: Any, which: int, signs: list[bool], seed: int) -> None:
    """Whichever rows fail in whichever version: every row has the answer of the version that is said to have served."""
    router = failing_routers[which]
    rows = np.random.default_rng(seed).normal(size=(len(signs), 3)).astype(np.float32)
    rows[:, 0] = np.abs(rows[:, 0]) * np.where(signs, -1, 1)
    prediction = router.predict({f"x{i}": rows[:, i] for i in range(3)}, request=str(seed))
    assert len(prediction) == len(signs)
    assert np.isfinite(prediction.values).all()
    for row, decision in enumerate(prediction.decisions):
        weights = {"1": "1", "2": "2", "3": "2"}[decision.served]
        assert prediction.values[row, 1] == pytest.approx(positive(weights, rows[row : row + 1])[0], abs=1e-5)
        assert (decision.fallback is None) == (decision.served == decision.chosen)
        assert sum(decision.propensity) == pytest.approx(1)


def test_a_unit_keeps_its_assignment_through_a_failure(
    make_router: Any, linear_files: dict[str, Path], weighted_policy: Any
) -> None:
    """What is chosen stays; what served is told apart, and comes back."""
    models = {"1": linear_files["1"], "2": linear_files["fails"]}
    router = make_router(
        models=models, policy=weighted_policy({"1": 0.5, "2": 0.5}), around={"breaker": {"failures": 2}}
    )
    good, bad = np.array([[1.0, 0, 0]], np.float32), np.array([[-1.0, 0, 0]], np.float32)

    def ask(row: np.ndarray) -> Any:
        return router.predict({f"x{i}": row[:, i] for i in range(3)}, keys=[unit]).decisions[0]

    unit = next(f"unit-{n}" for n in range(100) if router.decide({}, key=f"unit-{n}").chosen == "2")
    assert (ask(good).chosen, ask(good).served) == ("2", "2")
    for _ in range(3):
        failed = ask(bad)
        assert (failed.chosen, failed.served) == ("2", "1")
        assert failed.fallback
    assert ask(good).chosen == "2"
    fallback = {step.name: step.outcome for step in router.explain({}, key=unit).stack}["fallback"]
    assert "version 2 is left out now" in fallback


def test_the_explanation_shows_the_whole_stack(make_router: Any, weighted_policy: Any) -> None:
    around = {
        "guard": "token",
        "holdout": 0.1,
        "sticky": {"key": "unit"},
        "explore": 0.05,
        "shadow": ["3"],
        "timeout": 5,
        "breaker": {"failures": 4, "wait": 2},
    }
    router = make_router(policy=weighted_policy({"1": 0.5, "2": 0.5}), around=around)
    steps = {step.name: step.outcome for step in router.explain({"unit": "a"}).stack}
    assert list(steps) == ["guard", "holdout", "sticky", "explore", "policy", "fallback", "shadow"]
    assert steps["shadow"] == "version 3 answers too; unseen"
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    router.predict({f"x{i}": rows[:, i] for i in range(3)}, keys=[f"u{n}" for n in range(50)])
    router.settle()
    steps = {step.name: step.outcome for step in router.explain({"unit": "a"}).stack}
    count = router.counters.shadows["3"]
    assert f"the same on {100 * count.agreed / 50:.3g} % of 50 rows" in steps["shadow"]
    assert 0 < count.mean_difference < 1


def test_how_far_a_shadow_is() -> None:
    proba = np.array([[0.2, 0.8], [1.0, 0.0]]), np.array([[0.5, 0.5], [0.0, 1.0]])
    assert difference(*proba, "proba") == pytest.approx(0.3 + 1.0)
    assert difference(np.array([1.0, np.nan]), np.array([3.0, 1.0]), "value") == pytest.approx(2)
    assert difference(np.array([[1.0, 3.0]]), np.array([[2.0, 5.0]]), "value") == pytest.approx(1.5)
    assert difference(np.array(["a", "b"]), np.array(["a", "c"]), "label") == 1
