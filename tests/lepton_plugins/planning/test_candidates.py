"""Admission: who can be an arm, and in which words the others are turned away."""

from __future__ import annotations

import pytest

from lepton_plugins.errors import ArmMissing, NoArmLeft, RecordMismatch, SpecInvalid
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.records.report import BatchLatency, Dataset, Failure, Quantity, Resources


def plan_of(world, trust=None, **spec):
    spec = {"model": "flights", "policy": {"kind": "segment_best", "params": {"by": "carrier"}}, **spec}
    return make_plan(world.registry, parse_spec(spec), trust=trust).plan


def rejected(plan) -> dict[str, tuple[str, str]]:
    return {item.version: (item.code, item.reason) for item in plan.rejected}


def slow(p99: float) -> tuple[BatchLatency, ...]:
    return (BatchLatency(batch_size=1, p50_ms=1, p95_ms=2, p99_ms=p99, rows_per_second=500),)


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"failure": Failure(stage="predict", code="x", reason="NaN")}, "evaluation_failed", "stage 'predict': NaN"),
        (
            {"carries_code": True, "format": "cloudpickle"},
            "trust_required",
            "stored as cloudpickle, a format that runs code when it is loaded. If you trust who wrote it, pass --trust",
        ),
        ({"output": "label"}, "output_unavailable", "it gives 'label', which can't be brought to the plan's output"),
        ({"classes": ("0", "1")}, "classes_differ", "its classes are 0, 1; expected no, yes"),
        (
            {"dataset": Dataset(name="april", digest="sha256:april", rows=10)},
            "other_dataset",
            "it was evaluated on 'april' (sha256:april…), not on 'march'",
        ),
        ({"task": "regression", "output": "value"}, "other_task", "evaluated for regression, the others for classif"),
        ({"artifact_digest": "sha256:" + "0" * 64}, "digest_mismatch", "its report speaks of sha256:000000000000…"),
        ({"backend": None}, "not_measured", "its report doesn't come from loading it"),
        ({"inputs": {"signal": "str"}}, "incompatible_signature", "input 'signal' is str, version 1's is float64"),
        ({"predictions": False}, "predictions_unpaired", "its report has no predictions"),
    ],
)
def test_rejected_with_a_reason(split_world, changes, code, reason):
    split_world.add("4", 1.2, **changes)
    plan = plan_of(split_world)
    found = rejected(plan)["4"]
    assert found[0] == code
    assert reason in found[1]
    assert plan.arm("4") is None
    assert plan.arm("2") is not None


def test_no_report_and_a_copied_one(split_world):
    registry = split_world.registry
    for version, report in (("4", None), ("5", RecordMismatch("tag lepton.report", "iris 1", "flights 5"))):
        registry.versions[version] = registry.versions["3"].model_copy(update={"version": version})
        registry.reports[version] = report
    found = rejected(plan_of(split_world))
    assert found["4"][0] == "no_report"
    assert "run: lepton evaluate flights --versions 4" in found["4"][1]
    assert found["5"][0] == "record_mismatch"


def test_trust_is_recorded_for_the_arm_that_needs_it(split_world):
    split_world.add("4", 1.2, carries_code=True, format="pickle")
    plan = plan_of(split_world, trust="pickle", policy={"kind": "weighted", "params": {"shares": {1: 0.5, 4: 0.5}}})
    assert plan.arm("4").trust == "pickle"
    assert plan.arm("1").trust is None


def test_resources_reject_what_no_plan_can_hold(split_world):
    split_world.add("4", 1.2, resources=Resources(peak_memory=Quantity(value=2.0**33, how="measured")))
    split_world.add("5", 1.2, latency=slow(80))
    split_world.add("6", 1.2, resources=Resources())
    split_world.add("7", 1.2, latency=())
    resources = {"budget": {"memory": "4Gi"}, "slo": {"p99": "50ms"}}
    found = rejected(plan_of(split_world, resources=resources))
    assert found["4"] == ("over_budget", "it alone needs 8 GiB, resources.budget.memory is 4 GiB")
    assert found["5"] == ("over_slo", "its p99 is 80 ms on one row, the plan asks for at most 50 ms")
    assert found["6"][0] == "cost_unknown"
    assert found["7"][0] == "cost_unknown"


def test_the_data_of_most_versions_counts(world):
    for version in ("1", "2", "3"):
        other = {} if version != "1" else {"dataset": Dataset(name="april", digest="sha256:april", rows=10)}
        world.add(version, 0.8, **other)
    assert rejected(plan_of(world))["1"][0] == "other_dataset"


def test_the_data_of_the_named_default_counts_more(world):
    for version in ("1", "2", "3"):
        other = {} if version != "1" else {"dataset": Dataset(name="april", digest="sha256:april", rows=10)}
        world.add(version, 0.8, **other)
    plan = plan_of(world, default=1)
    assert {item.version for item in plan.rejected} == {"2", "3"}
    assert plan.default == "1"


def test_of_equally_many_the_later_data_counts(world):
    world.add("1", 0.8, dataset=Dataset(name="april", digest="sha256:april", rows=10))
    world.add("2", 0.8)
    assert rejected(plan_of(world))["1"][0] == "other_dataset"


def test_named_versions_must_exist(split_world):
    for place, spec in (
        ("versions[1]", {"versions": [1, 9]}),
        ("default", {"default": 9}),
        ("around.shadow[0]", {"around": {"shadow": [9]}}),
        ("objective.weights.9", {"objective": {"weights": {9: 1}}}),
        ("policy.params.shares[9]", {"policy": {"kind": "weighted", "params": {"shares": {9: 1}}}}),
    ):
        with pytest.raises(SpecInvalid) as caught:
            plan_of(split_world, **spec)
        said = "found '9', expected a version's number or label. Known: 1, 2, 3, v1, v2, v3."
        assert caught.value.findings == (f"{place}: {said}",)


def test_versions_by_list_and_by_tag(split_world):
    split_world.add("4", 1.2, metadata={"stage": "prod"})
    assert [arm.version for arm in plan_of(split_world, versions=[1, 2]).arms] == ["1", "2"]
    by_tag = plan_of(split_world, versions={"tag": {"stage": "prod"}})
    assert [arm.version for arm in by_tag.arms] == ["4"]


def test_nobody_left(world):
    world.add("1", carries_code=True, format="pickle")
    with pytest.raises(NoArmLeft, match="No version of 'flights' can be planned: version 1: it is stored as pi"):
        plan_of(world)
    world.add("2", carries_code=True, format="pickle")
    with pytest.raises(NoArmLeft, match=r"planned: versions 1, 2: it is stored as pickle.* or skops\.$"):
        plan_of(world)
    with pytest.raises(NoArmLeft, match="planned: none has all the tags of the plan file's filter"):
        plan_of(world, versions={"tag": {"stage": "nowhere"}})


@pytest.mark.parametrize("role", [{"default": 4}, {"around": {"fallback": 4}}, {"around": {"shadow": [4]}}])
def test_a_version_with_a_part_to_play_must_be_admitted(split_world, role):
    split_world.add("4", 1.2, carries_code=True, format="pickle")
    with pytest.raises(ArmMissing, match="names version 4, which can't be an arm: it was rejected: it is stored"):
        plan_of(split_world, **role)


def test_a_policy_that_names_a_rejected_version_hears_why(split_world):
    split_world.add("4", 1.2, classes=("0", "1"))
    with pytest.raises(ArmMissing, match=r"policy\.params\.shares names version 4, .* rejected: its classes are 0, 1"):
        plan_of(split_world, policy={"kind": "weighted", "params": {"shares": {4: 1}}})


def test_arms_with_different_inputs_are_stated(split_world):
    split_world.add("4", 1.3, inputs={"signal": "float32", "weather": "str"})
    split_world.add("5", {"AA": 0.1, "B6": 1.9, "DL": 0.1, "UA": 0.1}, inputs={})
    plan = plan_of(
        split_world,
        policy={"kind": "weighted", "params": {"shares": {1: 0.5, 4: 0.5}}},
        around={"fallback": 5, "sticky": {"key": "customer"}},
    )
    fields = {field.name: field for field in plan.signature.inputs}
    assert fields["signal"].dtype == "float64"
    assert fields["weather"].required
    assert (fields["customer"].dtype, fields["customer"].required) == ("object", False)
    assert any("input 'weather' is taken by version 4 only; every request must carry it" in w for w in plan.warnings)
    assert any("version 5 has no signature: it is given every input of the other arms" in w for w in plan.warnings)
