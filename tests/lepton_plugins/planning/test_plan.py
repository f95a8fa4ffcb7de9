"""Plans: complete, the same for the same inputs, and honest about what to expect."""

from __future__ import annotations

from time import process_time

import numpy as np
import pytest

from lepton_plugins.canonical import canonical_json
from lepton_plugins.errors import (
    Infeasible,
    MetricNotByRow,
    SpecInvalid,
    TrafficInvalid,
    UnknownMetric,
    WeightMissing,
)
from lepton_plugins.planning import lifecycle
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.spec import PlanSpec, PolicySpec

BEST = {"kind": "segment_best", "params": {"by": ["carrier"]}}


def planned(world, policy=BEST, **spec):
    return make_plan(world.registry, parse_spec({"model": "flights", "policy": policy, **spec}))


def test_each_carrier_gets_its_version(split_world):
    found = planned(split_world)
    plan = found.plan
    assert [arm.version for arm in plan.arms] == ["1", "2"]
    assert plan.default == "1"
    answers = {item.segment: item.shares for item in found.segments}
    assert answers == {"AA": {"1": 1}, "B6": {"1": 1}, "DL": {"2": 1}, "UA": {"2": 1}}
    assert sum(arm.share for arm in plan.arms) == pytest.approx(1)
    assert [(item.version, item.code) for item in plan.rejected] == [("3", "no_share")]
    assert plan.gain.metric == "log_loss"
    assert 0.01 < plan.gain.low < plan.gain.value < plan.gain.high < 0.04
    assert plan.allocation.status == "optimal"
    assert plan.output == "proba"
    assert plan.classes == ("no", "yes")
    assert 0.6 < plan.baseline < 0.7
    assert [item.run_id for item in plan.evidence] == ["report1", "report2"]
    assert "+0.0" in found.verdict
    assert found.verdict in found.summary


def test_it_is_shown(split_world):
    from rich.console import Console

    found = planned(split_world, resources={"budget": {"cpu": 2, "memory": "4Gi"}, "load": "200/s"})
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(found.table())
    text = console.export_text()
    for part in ("best in DL", "no_share", "Budget of cpu: 0.2 cores of 2 cores.", "Budget of memory: 2 GiB of 4 GiB"):
        assert part in text
    assert "<td>best in DL</td>" in found._repr_html_()


def test_the_same_inputs_give_the_same_digest(split_world):
    lifecycle.save(split_world.registry, planned(split_world))  # From here on the salt is known.
    first, second = planned(split_world), planned(split_world)
    assert first.plan.digest == second.plan.digest
    again = DeploymentPlan.model_validate_json(canonical_json(first.plan))
    assert again.digest == first.plan.digest


def test_the_salt_and_the_parent_are_carried_on(split_world):
    registry = split_world.registry
    first = planned(split_world)
    assert len(first.plan.salt) == 32
    assert first.plan.parent is None
    lifecycle.save(registry, first)
    stored = planned(split_world, policy="weighted")
    assert stored.plan.salt == first.plan.salt
    assert stored.plan.parent is None
    lifecycle.promote(registry, "flights")
    assert planned(split_world, policy="weighted").plan.parent == first.plan.digest


def test_the_default_arm(split_world):
    registry = split_world.registry
    assert planned(split_world).plan.default == "1"  # The alias.
    assert planned(split_world, default=2).plan.default == "2"
    registry.versions["1"] = registry.versions["1"].model_copy(update={"aliases": ()})
    registry.versions["2"] = registry.versions["2"].model_copy(update={"aliases": ("lepton-champion",)})
    assert planned(split_world).plan.default == "2"
    registry.versions["2"] = registry.versions["2"].model_copy(update={"aliases": ()})
    assert planned(split_world, versions=[2, 3]).plan.default == "2"  # The best.
    lifecycle.save(registry, planned(split_world, default=3))
    lifecycle.promote(registry, "flights")
    assert planned(split_world).plan.default == "3"  # The one in force.
    replaced = planned(split_world, versions=[1, 2]).plan
    assert replaced.default == "1"
    assert any(w.startswith("version 3, the default arm so far, can't be an arm") for w in replaced.warnings)


def test_weighted_shares_as_given(split_world):
    found = planned(split_world, policy={"kind": "weighted", "params": {"shares": {1: 0.7, 2: 0.3}}})
    plan = found.plan
    assert [arm.share for arm in plan.arms] == pytest.approx([0.7, 0.3], abs=1e-4)
    assert plan.allocation.status == "fixed"
    assert len(found.segments) == 1
    lifecycle.save(split_world.registry, found)
    lifecycle.promote(split_world.registry, "flights")
    after = planned(split_world, policy={"kind": "weighted", "params": {"shares": {1: 0.6, 2: 0.4}}}).plan
    slots = [
        np.repeat([v for v, _ in p.policy.document["slots"]], [n for _, n in p.policy.document["slots"]])
        for p in (plan, after)
    ]
    assert (slots[0] != slots[1]).mean() == pytest.approx(0.1, abs=1e-4)


def test_weighted_by_the_solver_takes_the_best_and_says_so(world):
    world.add("1", 0.4, aliases=("champion",))
    world.add("2", 1.0)
    found = planned(world, policy="weighted")
    assert {arm.version: arm.share for arm in found.plan.arms} == {"1": 0, "2": 1}
    assert found.plan.gain.low > 0


def test_weights_change_the_choice_and_are_for_all_or_none(split_world):
    heavy = planned(split_world, policy="weighted", objective={"weights": {1: 1, 2: 3, 3: 1}}).plan
    assert heavy.arm("2").share == 1
    with pytest.raises(WeightMissing, match="found weights for versions 1, 2 but none for 3"):
        planned(split_world, objective={"weights": {1: 1, 2: 3}})


def test_noise_stays_with_the_default(world):
    world.add("1", 1.0, aliases=("champion",))
    for version in ("2", "3", "4"):
        world.add(version, 1.0)
    found = planned(world)
    assert [arm.version for arm in found.plan.arms] == ["1"]
    assert found.plan.gain.value == pytest.approx(0, abs=2e-4)
    assert found.verdict.startswith("Routing isn't expected to win: nothing better than version 1 was found")


def test_holdout_is_part_of_shares_and_gain(split_world):
    whole, held = planned(split_world).plan, planned(split_world, around={"holdout": 0.2}).plan
    assert held.arm("2").share == pytest.approx(0.8 * whole.arm("2").share)
    assert held.arm("1").share + held.arm("2").share == pytest.approx(1)
    assert held.gain.value == pytest.approx(0.8 * whole.gain.value)


def test_shadows_run_but_get_no_share(split_world):
    found = planned(split_world, around={"shadow": [2], "fallback": 3})
    plan = found.plan
    assert {arm.version: arm.share for arm in plan.arms} == {"1": 1, "2": 0, "3": 0}
    assert plan.around.shadow == ("2",)
    weighted = planned(split_world, policy={"kind": "weighted", "params": {"shares": {1: 1}}}, around={"shadow": [2]})
    assert {arm.version: arm.share for arm in weighted.plan.arms} == {"1": 1, "2": 0}


def test_given_traffic_moves_shares_and_gain(split_world):
    even = planned(split_world).plan
    mostly_dl = planned(split_world, objective={"traffic": {"DL": 0.85}}).plan
    assert mostly_dl.arm("2").share > 0.85
    assert mostly_dl.gain.value > 1.5 * even.gain.value
    with pytest.raises(TrafficInvalid, match="found the segment 'DLX', which the evaluation data lacks"):
        planned(split_world, objective={"traffic": {"DLX": 0.5}})
    with pytest.raises(TrafficInvalid, match=r"sum to 1\.2"):
        planned(split_world, objective={"traffic": {"DL": 0.6, "UA": 0.6}})


def test_a_tight_budget_shares_within_a_segment(split_world):
    registry = split_world.registry
    report = registry.reports["2"]
    dear = report.latency[0].model_copy(update={"rows_per_second": 100.0})
    registry.reports["2"] = report.model_copy(update={"latency": (dear,)})
    free = planned(split_world, resources={"load": "100/s"}).plan
    assert free.arm("2").resources.cpu == pytest.approx(free.arm("2").share)
    tight = planned(split_world, resources={"load": "100/s", "budget": {"cpu": 0.4}}).plan
    assert sum(arm.resources.cpu for arm in tight.arms) <= 0.4001
    assert 0 < tight.arm("2").share < free.arm("2").share
    assert 0 < tight.gain.value < free.gain.value
    with pytest.raises(Infeasible, match=r"budget\.cpu: found 0\.05 cores.*is 0\.1 cores"):
        planned(split_world, resources={"load": "100/s", "budget": {"cpu": 0.05}})


def test_fixed_shares_that_do_not_fit(split_world):
    with pytest.raises(Infeasible, match=r"found 1\.5 GiB, but with the policy's shares version 1, 2 need 2 GiB"):
        planned(
            split_world,
            policy={"kind": "weighted", "params": {"shares": {1: 0.5, 2: 0.5}}},
            resources={"budget": {"memory": "1.5Gi"}},
        )


def test_select_runs_what_fits(split_world):
    found = planned(
        split_world, policy="weighted", objective={"form": "select"}, resources={"budget": {"memory": "2Gi"}}
    )
    assert len(found.plan.arms) == 2
    assert found.plan.allocation.form == "select"


def test_metrics(split_world):
    assert planned(split_world, objective={"metric": "brier"}).plan.gain.metric == "brier"
    assert planned(split_world, output="label").plan.gain.metric == "accuracy"
    with pytest.raises(MetricNotByRow, match="'roc_auc' is not a mean over rows"):
        planned(split_world, objective={"metric": "roc_auc"})
    with pytest.raises(UnknownMetric, match="There is no classification metric 'mse'"):
        planned(split_world, objective={"metric": "mse"})


def test_a_spec_made_in_python_is_checked_too(split_world):
    spec = PlanSpec(model="flights", policy=PolicySpec(kind="segment_best", params={"bye": ["carrier"]}))
    with pytest.raises(SpecInvalid, match=r"policy\.params\.bye: unknown key 'bye'\. Did you mean 'by'\?"):
        make_plan(split_world.registry, spec)


def test_versions_whose_scores_differ_in_scale_are_warned_about(world):
    world.add("1", 1.0, aliases=("champion",))
    world.add("2", 1.0, shift=-1.5)
    shares = {"kind": "weighted", "params": {"shares": {1: 0.5, 2: 0.5}}}
    (warning,) = planned(world, policy=shares).plan.warnings
    assert warning.startswith("the versions aren't calibrated alike: the routed AUC over all rows is 0.")
    assert "recalibrate all versions on the same recent data" in warning
    world.add("2", 1.0)
    assert planned(world, policy=shares).plan.warnings == ()


def test_context_columns_are_optional_inputs(split_world):
    fields = {field.name: field for field in planned(split_world).plan.signature.inputs}
    assert (fields["carrier"].dtype, fields["carrier"].required) == ("str", False)
    assert fields["signal"].required


@pytest.mark.parametrize(
    ("versions", "rows", "seconds"), [(20, 20_000, 6), pytest.param(50, 100_000, 15, marks=pytest.mark.long)]
)
def test_many_versions_of_many_rows_in_seconds(new_world, versions, rows, seconds):
    world = new_world(rows=rows, carriers=tuple(f"C{i:02d}" for i in range(10)))
    rng = np.random.default_rng(0)
    for version in range(1, versions + 1):
        world.add(str(version), dict(zip(world.carriers, rng.uniform(0.4, 1.1, 10).tolist(), strict=True)))
    start = process_time()
    found = planned(world, default=1)
    assert process_time() - start < seconds
    assert found.plan.gain.low > 0


def test_given_traffic_of_a_rare_segment(new_world):
    """Some folds lack the segment; the plan is made all the same."""
    world = new_world(rows=2000, carriers=("AA", "B6", "DL"))
    world.frame.loc[world.frame.index[:3], "carrier"] = "ZZ"
    world.carriers = ("AA", "B6", "DL", "ZZ")
    world.add("1", 0.5, aliases=("champion",))
    world.add("2", 1.0)
    plan = planned(world, objective={"traffic": {"ZZ": 0.2}}).plan
    assert plan.gain.value > 0
    assert plan.arm("2").share > 0.8


def test_a_default_cannot_be_a_shadow():
    with pytest.raises(SpecInvalid, match="version 2 as default and in around"):
        parse_spec({"model": "flights", "default": 2, "around": {"shadow": [2]}})


def test_conflicts_and_the_number_of_versions(split_world):
    for resources in ({"conflicts": [[1, 2]]}, {"max_versions": 1}, {"min_share": 0.6}):
        plan = planned(split_world, resources=resources).plan
        assert [arm.version for arm in plan.arms] == ["1"]
        assert {item.code for item in plan.rejected} == {"no_share"}
    with pytest.raises(Infeasible, match=r"resources\.conflicts: versions 1 and 2 must both run"):
        planned(split_world, around={"fallback": 2}, resources={"conflicts": [[1, 2]]})
    with pytest.raises(SpecInvalid, match=r"resources\.conflicts\[0\]\[1\]: found '9', expected a version's number"):
        planned(split_world, resources={"conflicts": [[1, 9]]})
    with pytest.raises(SpecInvalid, match=r"resources\.conflicts\[0\]: found \['1'\], expected two versions such as"):
        planned(split_world, resources={"conflicts": [[1]]})


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"conflicts": [[2, 1]]}, "resources.conflicts: the policy has versions 2 and 1 run together"),
        ({"max_versions": 1}, "resources.max_versions: found 1, but the policy has 1, 2 run"),
        ({"min_share": 0.4}, "resources.min_share: found 0.4, the policy gives version 2 0.3"),
    ],
)
def test_given_shares_must_keep_them_too(split_world, resources, said):
    with pytest.raises(Infeasible) as caught:
        planned(split_world, policy={"kind": "weighted", "params": {"shares": {1: 0.7, 2: 0.3}}}, resources=resources)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["auto", "milp", "greedy", "genetic", "swarm"])
def test_every_solver_makes_a_plan(split_world, name):
    plan = planned(
        split_world, solver={"name": name, "seed": 3}, resources={"load": "100/s", "budget": {"cpu": 0.4}}
    ).plan
    assert plan.allocation.solver == ("milp" if name == "auto" else name)
    assert {arm.version for arm in plan.arms} == {"1", "2"}
