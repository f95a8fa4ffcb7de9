"""What other resources would be worth: the plan made again."""

from __future__ import annotations

import pytest

from lepton_plugins.errors import InvalidInput, SpecInvalid
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.planning.what_if import changed, margins, read, what_if
from lepton_plugins.records.report import BatchLatency, Quantity, Resources

BEST = {"kind": "segment_best", "params": {"by": ["carrier"]}}


@pytest.fixture
def tight(world):
    """Version 2 is better for DL and UA, but slow and large: the budget has no room for both."""
    slow = (BatchLatency(batch_size=1, p50_ms=9, p95_ms=9, p99_ms=9, rows_per_second=100),)
    world.add("1", {"AA": 1.0, "B6": 1.0, "DL": 0.4, "UA": 0.4}, aliases=("champion",))
    world.add("2", 1.0, latency=slow, resources=Resources(peak_memory=Quantity(value=2.0**31, how="measured")))
    return world


def planned(world, **resources):
    return make_plan(world.registry, parse_spec({"model": "flights", "policy": BEST, "resources": resources}))


def test_one_more_of_what_is_scarce_is_worth_something(tight):
    found = planned(tight, load="100/s", budget={"cpu": 4, "memory": "2Gi"})
    cpu, memory = margins(tight.registry, found)
    assert (cpu.resource, memory.resource) == ("cpu", "memory")
    assert cpu.used == pytest.approx(0.1)
    assert cpu.utilisation == pytest.approx(0.025)
    assert cpu.worth == pytest.approx(0, abs=1e-12)
    assert memory.utilisation == pytest.approx(0.5)
    assert memory.worth > 0.001
    assert memory.then.shares["2"] > 0.4
    assert not tight.registry.plans


def test_a_version_that_was_rejected_for_its_size_comes_back(tight):
    found = planned(tight, budget={"memory": "1.5Gi"})
    (memory,) = margins(tight.registry, found)
    assert memory.then.shares == {"1": 1.0}  # 2.5 GiB hold version 2, but not both.
    assert what_if(tight.registry, found, ["memory=3Gi"])[1].shares["2"] > 0.4


def test_the_margin_of_a_cpu_is_that_of_the_share_it_buys(tight):
    found = planned(tight, load="200/s", budget={"cpu": 0.5})
    (cpu,) = margins(tight.registry, found)
    assert cpu.utilisation == pytest.approx(1, abs=1e-3)
    more = what_if(tight.registry, found, ["cpu=1.5"])[1]
    assert cpu.worth == pytest.approx(more.objective - found.plan.allocation.objective, abs=1e-6)
    assert cpu.then.shares["2"] > found.plan.arm("2").share


def test_what_if(tight):
    found = planned(tight, load="100/s", budget={"cpu": 2, "memory": "4Gi"})
    now, double, none, fast, free = what_if(
        tight.registry, found, ["load=200/s,memory=3Gi", "memory=100Mi", "p99=5ms", "memory=none, cpu=none"]
    )
    assert now.name == "as planned"
    assert now.shares == {arm.version: arm.share for arm in found.plan.arms}
    assert double.used["cpu"] == pytest.approx(2 * now.used["cpu"])
    assert double.shares == now.shares
    assert "No version" in none.problem
    assert fast.shares == {"1": 1.0}
    assert fast.objective < now.objective
    assert free.shares == now.shares


def test_shares_of_the_policys_own_have_no_worth(tight):
    given = {"kind": "weighted", "params": {"shares": {1: 0.5, 2: 0.5}}}
    spec = {"model": "flights", "policy": given, "resources": {"budget": {"memory": "4Gi"}}}
    (memory,) = margins(tight.registry, make_plan(tight.registry, parse_spec(spec)))
    assert memory.worth is None
    assert memory.utilisation == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memry=8Gi", "found the key 'memry', expected one of load, cpu, memory"),
        ("load", "found 'load', expected KEY=VALUE such as load=400/s"),
        ("load=1/s,load=2/s", "found load twice"),
    ],
)
def test_what_is_asked_wrongly(text, said):
    with pytest.raises(InvalidInput, match=said):
        read(text)


def test_values_are_checked_as_in_the_plan_file():
    spec = parse_spec({"model": "m", "objective": {"weights": {1: 1, 2: 0.5}}, "versions": [1, 2]})
    assert changed(spec, {"memory": "8Gi"}).resources.budget.memory == 8 * 2**30
    assert changed(spec, {"load": "60/min"}).objective == spec.objective
    with pytest.raises(SpecInvalid, match=r"memory: found '8 gigs', expected a size such as"):
        changed(spec, {"memory": "8 gigs"})
    with pytest.raises(SpecInvalid, match="budget of cpu without load"):
        changed(spec, {"cpu": "2"})
