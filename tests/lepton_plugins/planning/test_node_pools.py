"""Node pools in a plan: replicas by pool, the nodes that hold them, replanning from the plan in force."""

from __future__ import annotations

from io import StringIO

import pytest

from lepton_plugins.errors import Infeasible, InvalidInput, SpecInvalid
from lepton_plugins.planning.diff import diff
from lepton_plugins.planning.lifecycle import promote, save
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.planning.what_if import margins, what_if
from lepton_plugins.records.report import BatchLatency, Quantity, Resources

BEST = {"kind": "segment_best", "params": {"by": ["carrier"]}}
SMALL = {"nodes": 4, "cpu": 4, "memory": "4Gi", "price": 1}


@pytest.fixture
def tight(world):
    """Version 2 is better for DL and UA, but takes 2 GiB and ten milliseconds a row."""
    slow = (
        BatchLatency(batch_size=1, p50_ms=9, p95_ms=9, p99_ms=9, rows_per_second=100),
        BatchLatency(batch_size=8, p50_ms=20, p95_ms=20, p99_ms=20, rows_per_second=400),
    )
    world.add("1", {"AA": 1.0, "B6": 1.0, "DL": 0.4, "UA": 0.4}, aliases=("champion",))
    world.add("2", 1.0, latency=slow, resources=Resources(peak_memory=Quantity(value=2.0**31, how="measured")))
    return world


def planned(world, *, topology="distributed", policy=BEST, objective=None, **resources):
    spec = {"model": "flights", "policy": policy, "topology": topology, "resources": resources}
    return make_plan(world.registry, parse_spec(spec | ({"objective": objective} if objective else {})))


def test_replicas_follow_the_load(tight):
    plan = planned(tight, load="600/s", headroom=0.2, pools={"small": SMALL}).plan
    two = plan.arm("2")
    assert two.resources.replicas == two.resources.pools["small"] == -(-(600 * 1.2 * two.share) // 100)
    assert two.resources.memory == two.resources.replicas * 2**31
    assert two.resources.cpu == two.resources.replicas
    assert two.resources.throughput == 100, "rows a second of one replica"
    nodes = plan.allocation.nodes["small"]
    assert len(nodes) <= 4
    assert all(node.get("2", 0) * 2 + node.get("1", 0) <= 4 for node in nodes)
    assert sum(node.get("2", 0) for node in nodes) == two.resources.replicas
    assert plan.allocation.cost == len(nodes)
    assert plan.allocation.moves is None


def test_larger_batches_need_fewer_replicas(tight):
    one = planned(tight, load="600/s", pools={"small": SMALL}).plan
    eight = planned(tight, load="600/s", batch=8, pools={"small": SMALL}).plan
    assert eight.arm("2").resources.replicas < one.arm("2").resources.replicas
    assert eight.arm("2").resources.throughput == 400


def test_replanning_moves_only_what_it_must(tight):
    registry = tight.registry
    first = planned(tight, load="300/s", pools={"small": SMALL})
    save(registry, first)
    promote(registry, "flights")
    again = planned(tight, load="300/s", pools={"small": SMALL}).plan
    assert again.allocation.moves == 0
    more = planned(tight, load="500/s", pools={"small": SMALL}).plan
    started = sum(max(0, arm.resources.replicas - first.plan.arm(arm.version).resources.replicas) for arm in more.arms)
    assert more.allocation.moves == started > 0


def test_one_process_a_node_holds_all_versions(tight):
    plan = planned(tight, topology="embedded", load="600/s", pools={"small": SMALL}).plan
    one, two = plan.arm("1").resources, plan.arm("2").resources
    assert one.pools == two.pools == {"small": one.replicas}
    assert one.replicas == -(-(two.cpu + one.cpu) // 4)
    assert plan.allocation.nodes["small"] == ({"1": 1, "2": 1},) * one.replicas
    lone = planned(tight, topology="embedded", load="600/s", pools={"small": SMALL | {"memory": "2Gi"}}).plan
    assert [arm.version for arm in lone.arms] == ["1"]


def test_too_few_nodes_name_the_field_that_asks_for_more(tight):
    one = {"small": SMALL | {"nodes": 1}}
    lost = r"pool small: found 1 node, expected at least 2, as resources\.survive: node asks\."
    with pytest.raises(Infeasible, match=lost):
        planned(tight, topology="embedded", load="10/s", survive="node", pools=one)
    few = r"found 1 node, expected at least 3, as resources\.min_replicas: 3 asks"
    with pytest.raises(Infeasible, match=few):
        planned(tight, topology="embedded", load="10/s", survive="node", min_replicas=3, pools=one)
    with pytest.raises(Infeasible, match=r"resources\.survive: without it there is one"):
        planned(tight, load="10/s", survive="node", pools=one)


def test_survive_a_node(tight):
    for topology in ("embedded", "distributed"):
        plan = planned(tight, topology=topology, load="100/s", survive="node", pools={"small": SMALL}).plan
        assert all(arm.resources.replicas >= 2 for arm in plan.arms if arm.share)
        assert all(count == 1 for node in plan.allocation.nodes["small"] for count in node.values())


def test_shares_that_no_solver_chose_get_replicas(tight):
    weighted = {"kind": "weighted", "params": {"shares": {1: 0.5, 2: 0.5}}}
    plan = planned(tight, policy=weighted, load="600/s", pools={"small": SMALL}).plan
    assert plan.arm("2").resources.replicas == 3
    assert plan.allocation.status == "fixed"
    with pytest.raises(Infeasible, match=r"resources\.pools\.small\.nodes: found 4"):
        planned(tight, policy=weighted, load="4000/s", pools={"small": SMALL})


def test_the_better_pool_of_two(tight):
    dear = SMALL | {"price": 10}
    found = planned(tight, load="100/s", objective={"price": 0.001}, pools={"dear": dear, "cheap": SMALL}).plan
    assert set(found.allocation.nodes["dear"]) == set()
    assert found.allocation.nodes["cheap"]


def test_what_fits_no_node_is_rejected(tight):
    plan = planned(tight, load="100/s", pools={"small": SMALL | {"memory": "1.5Gi"}}).plan
    (rejected,) = [item for item in plan.rejected if item.version == "2"]
    assert rejected.code == "fits_no_node"
    assert "a replica needs 1 core, 2 GiB, which no node of resources.pools (small) has" in rejected.reason


def test_pools_need_a_load():
    with pytest.raises(SpecInvalid, match="found pools without load"):
        parse_spec({"model": "m", "resources": {"pools": {"small": SMALL}}})
    with pytest.raises(SpecInvalid, match="found survive without pools"):
        parse_spec({"model": "m", "resources": {"survive": "node"}})


def test_one_more_node_and_what_if(tight):
    found = planned(tight, load="1200/s", pools={"small": SMALL | {"nodes": 3}})
    (nodes,) = margins(tight.registry, found)
    assert nodes.resource == "pools.small.nodes"
    assert (nodes.used, nodes.budget) == (3, 3)
    assert nodes.worth > 0.001
    now, fewer, faster = what_if(tight.registry, found, ["pools.small.nodes=1", "pools.small.speed=3,load=900/s"])
    assert fewer.shares["2"] < now.shares["2"] < faster.shares["2"]
    assert fewer.cost == 1
    with pytest.raises(InvalidInput, match="found the pool 'large', expected one of the plan file's: small"):
        what_if(tight.registry, found, ["pools.large.nodes=1"])
    with pytest.raises(InvalidInput, match=r"found the key 'pools.small.size', expected one of load, .*pools\.NAME"):
        what_if(tight.registry, found, ["pools.small.size=1"])


def test_the_picture_shows_pools_and_nodes(tight):
    from rich.console import Console

    found = planned(
        tight, load="600/s", pools={"small": SMALL, "spare": SMALL | {"price": 9}}, objective={"price": 1e-4}
    )
    console = Console(width=160, record=True, file=StringIO())
    console.print(found.table())
    text = console.export_text()
    assert "Node pools, used of all nodes" in text
    assert "0 of 4" in text
    assert "██" in text
    assert "version 2 × " in text
    assert "<caption>Nodes</caption>" in found._repr_html_()


def test_a_diff_names_replicas(tight):
    few = planned(tight, load="300/s", pools={"small": SMALL}).plan
    many = planned(tight, load="600/s", pools={"small": SMALL}).plan
    assert f"~ version 2: replicas on small {few.arm('2').resources.replicas} → " in str(diff(few, many))
