"""A version's latencies from three figures, and what a plan makes of a limit for all answers together."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_plugins.errors import Infeasible, PolicyUnfit
from lepton_plugins.planning.latency import LATE, Latency, late_part, mixture_p99
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.records.report import BatchLatency


def test_the_three_figures_are_kept_and_log_normal_ones_are_exact():
    rng = np.random.default_rng(0)
    drawn = np.exp(rng.normal(1.0, 0.4, 400_000))
    known = Latency(*np.quantile(drawn, [0.5, 0.95, 0.99]))
    for q, value in ((0.5, known.p50), (0.95, known.p95), (0.99, known.p99)):
        assert known.later_than(value) == pytest.approx(1 - q, abs=1e-9)
    for q in (0.2, 0.8, 0.97, 0.999):
        assert known.later_than(float(np.quantile(drawn, q))) == pytest.approx(1 - q, abs=0.003)


def test_a_mixture_has_the_p99_of_its_draws():
    rng = np.random.default_rng(1)
    fast, slow = np.exp(rng.normal(0, 0.3, 400_000)), np.exp(rng.normal(1.5, 0.5, 400_000))
    known = [Latency(*np.quantile(item, [0.5, 0.95, 0.99])) for item in (fast, slow)]
    drawn = np.where(rng.random(400_000) < 0.3, slow, fast)
    found = mixture_p99([0.7, 0.3], known)
    assert found == pytest.approx(np.quantile(drawn, 0.99), rel=0.02)
    assert late_part([0.7, 0.3], known, found) == pytest.approx(LATE)
    assert mixture_p99([1.0, 0.0], known) == pytest.approx(known[0].p99)


def test_figures_without_spread_are_a_step():
    still = Latency(2.0, 2.0, 2.0)
    assert still.later_than(1.9) == 0.5
    assert still.later_than(2.0) == 0.0
    assert mixture_p99([1.0], [still]) == pytest.approx(2.0)


def latency_of(p50: float, p95: float, p99: float) -> tuple[BatchLatency, ...]:
    return (BatchLatency(batch_size=1, p50_ms=p50, p95_ms=p95, p99_ms=p99, rows_per_second=100),)


def spec_of(limit: str | None = "10ms", **changes: object):
    slo = {} if limit is None else {"mixture_p99": limit}
    return parse_spec({"model": "flights", "resources": {"slo": slo}} | changes)


def test_a_slow_version_answers_as_much_as_the_limit_of_all_allows(world):
    world.add("1", 0.4, latency=latency_of(1, 2, 4), aliases=("champion",))
    world.add("2", 1.0, latency=latency_of(5, 9, 14))
    free = make_plan(world.registry, spec_of(None))
    assert {arm.version: arm.share for arm in free.plan.arms if arm.share} == {"2": 1.0}
    made = make_plan(world.registry, spec_of())
    shares = {arm.version: arm.share for arm in made.plan.arms}
    assert 0.05 < shares["2"] < 0.9
    assert made.plan.allocation.p99_ms == pytest.approx(10, rel=0.01)
    assert "p99 of all answers together, by each version's own: 10 ms of 10 ms" in str(made)
    with pytest.raises(Infeasible, match="mixture_p99"):
        make_plan(world.registry, spec_of("3ms"))


def test_fixed_shares_are_checked_and_cascades_have_no_such_limit(world):
    world.add("1", 0.4, latency=latency_of(1, 2, 4), aliases=("champion",))
    world.add("2", 1.0, latency=latency_of(5, 9, 14))
    fixed = {"kind": "weighted", "params": {"shares": {"1": 0.1, "2": 0.9}}}
    with pytest.raises(Infeasible, match=r"found 10 ms, expected no less than the p99 .* 13"):
        make_plan(world.registry, spec_of(policy=fixed))
    with pytest.raises(PolicyUnfit, match="asks one version a row"):
        make_plan(world.registry, spec_of(policy="cascade"))
