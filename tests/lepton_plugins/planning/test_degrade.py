"""`around.degrade` in a plan file: which arm is the cheaper one, and what is said of it."""

from __future__ import annotations

import pytest

from lepton_plugins.errors import ArmMissing, CheaperArmUnknown, SpecInvalid
from lepton_plugins.planning import lifecycle
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.records.report import BatchLatency

BEST = {"kind": "segment_best", "params": {"by": ["carrier"]}}
SLO = {"slo": {"p99": "50ms"}}


def latency(rows_per_second: float) -> tuple[BatchLatency, ...]:
    return (BatchLatency(batch_size=1, p50_ms=1, p95_ms=2, p99_ms=4, rows_per_second=rows_per_second),)


@pytest.fixture
def two(world):
    """Version 1 is better for AA and B6, and dear; version 2 for DL and UA, and cheap; 3 nowhere, the cheapest."""
    world.add("1", {"AA": 1.0, "B6": 1.0, "DL": 0.4, "UA": 0.4}, aliases=("champion",), latency=latency(100))
    world.add("2", {"AA": 0.4, "B6": 0.4, "DL": 1.0, "UA": 1.0}, latency=latency(2000), label="small")
    world.add("3", 0.3, latency=latency(9000), label="tiny")
    return world


def planned(world, degrade, policy=BEST, resources=SLO):
    spec = {"model": "flights", "policy": policy, "around": {"degrade": degrade}, "resources": resources}
    return make_plan(world.registry, parse_spec(spec))


def flat(found):
    return " ".join(str(found).split())


def test_by_default_the_arm_that_costs_least(two):
    found = planned(two, {})
    assert found.plan.around.degrade.to == "2"
    assert found.plan.spec.around.degrade.to is None
    assert "Under load version 2 answers what others can't within 40 ms." in str(found)
    assert "under load" in str(found)
    assert not any("degrade" in warning for warning in found.plan.warnings)


def test_a_version_that_nothing_else_runs_is_an_arm_then(two):
    found = planned(two, {"to": "tiny", "concurrency": {"small": 4}})
    assert [arm.version for arm in found.plan.arms] == ["1", "2", "3"]
    assert found.plan.arm("3").share == 0
    assert found.plan.around.degrade.to == "3"
    assert found.plan.around.degrade.concurrency == {"2": 4}
    assert "within 40 ms, or with 4 calls of version 2 at once" in flat(found)


def test_limits_of_calls_are_enough(two):
    found = planned(two, {"concurrency": {1: 8}}, resources={})
    assert "can't with 8 calls of version 1 at once." in flat(found)


def test_without_anything_to_go_by(two):
    with pytest.raises(SpecInvalid, match=r"found around.degrade without resources.slo.p99 and without .*concurrency"):
        planned(two, {}, resources={})
    with pytest.raises(SpecInvalid, match=r"around\.degrade: found leave 0\.9 and enter 0\.8, expected a leave below"):
        planned(two, {"leave": 0.9})
    with pytest.raises(SpecInvalid, match=r"around\.degrade\.concurency: unknown key .* mean 'concurrency'"):
        planned(two, {"concurency": {1: 8}})
    with pytest.raises(SpecInvalid, match=r"around\.degrade\.concurrency: found version 2 twice, also as 'small'"):
        planned(two, {"concurrency": {2: 8, "small": 4}})


def test_a_version_that_can_be_no_arm(two):
    two.add("4", 0.2, latency=(BatchLatency(batch_size=1, p50_ms=1, p95_ms=2, p99_ms=80, rows_per_second=9000),))
    with pytest.raises(ArmMissing, match=r"around\.degrade\.to"):
        planned(two, {"to": 4})


def test_what_cannot_help_is_said(two):
    everything = {"kind": "weighted", "params": {"shares": {2: 1}}}
    (said,) = [text for text in planned(two, {"to": 2}, everything).plan.warnings if "degrade" in text]
    assert said.startswith("around.degrade has nothing to do: version 2 answers everything already.")
    (said,) = [text for text in planned(two, {"to": 1}).plan.warnings if "degrade" in text]
    assert said == (
        "around.degrade.to: a row of version 1 takes 10 ms by its report, more than one of version 2: to move rows "
        "from there saves no time"
    )


def test_a_report_without_throughput(two):
    two.add("2", {"AA": 0.4, "B6": 0.4, "DL": 1.0, "UA": 1.0}, latency=())
    with pytest.raises(CheaperArmUnknown, match=r"the report of version 2 has no throughput"):
        planned(two, {"concurrency": {1: 8}}, resources={})


def test_a_pin_is_kept_under_load_too(two):
    lifecycle.save(two.registry, planned(two, {}))
    lifecycle.promote(two.registry, "flights")
    lifecycle.pin(two.registry, "flights", "1")
    pinned = two.registry.get_plan(two.registry.plan_in_force("flights"))[0]
    assert pinned.around.degrade is None
