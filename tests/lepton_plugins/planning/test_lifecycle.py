"""A plan's life: promote, rollback, pin, unpin, and the trail they leave; and what changes at each step."""

from __future__ import annotations

import pytest

from lepton_plugins.errors import (
    AlreadyPinned,
    ArmMissing,
    NoArmLeft,
    NothingToPromote,
    NothingToRollBack,
    NotPinned,
    PlanNotFound,
    PlanStale,
    RevisionAmbiguous,
    VersionNotFound,
)
from lepton_plugins.planning import lifecycle
from lepton_plugins.planning.diff import diff
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.records.signature import Field, Signature


def shares(world, **given):
    spec = {"model": "flights", "policy": {"kind": "weighted", "params": {"shares": given}}, "around": {"holdout": 0.1}}
    return make_plan(world.registry, parse_spec(spec))


def segments(world):
    return make_plan(
        world.registry,
        parse_spec({"model": "flights", "policy": {"kind": "segment_best", "params": {"by": "carrier"}}}),
    )


def put_in_force(world, planned, why=""):
    revision = lifecycle.save(world.registry, planned)
    return lifecycle.promote(world.registry, "flights", str(revision.number), why=why)


@pytest.fixture
def three(split_world):
    """Three plans, promoted one after the other."""
    for given in ({"1": 1}, {"1": 0.7, "2": 0.2, "3": 0.1}, {"1": 0.5, "2": 0.5}):
        put_in_force(split_world, shares(split_world, **given))
    return split_world


def in_force(world) -> int:
    return world.registry.plan_in_force("flights").number


def test_promote_takes_the_latest_that_was_not(split_world):
    registry = split_world.registry
    with pytest.raises(NothingToPromote, match="there is no plan yet"):
        lifecycle.promote(registry, "flights")
    lifecycle.save(registry, shares(split_world, **{"1": 1}))
    lifecycle.save(registry, segments(split_world))
    activation = lifecycle.promote(registry, "flights", why="better by carrier")
    assert (activation.to_number, activation.action, activation.why) == (2, "promote", "better by carrier")
    assert activation.evidence["gain"]["low"] > 0
    assert activation.evidence["reports"][0]["run_id"] == "report1"
    with pytest.raises(NothingToPromote, match="revision #2 is in force and the newest"):
        lifecycle.promote(registry, "flights")


def test_promote_refuses_what_was_planned_on_another_plan(split_world):
    registry = split_world.registry
    lifecycle.save(registry, shares(split_world, **{"1": 1}))
    lifecycle.save(registry, segments(split_world))
    lifecycle.promote(registry, "flights", "1")
    with pytest.raises(PlanStale):
        lifecycle.promote(registry, "flights", "2")
    assert lifecycle.promote(registry, "flights", "2", force=True).to_number == 2


def test_a_revision_by_number_and_digest(three):
    registry = three.registry
    digest = registry.list_plans("flights")[1].digest
    for name in ("2", "#2", digest, digest.removeprefix("sha256:")[:8]):
        assert lifecycle.find(registry, "flights", name).number == 2
    with pytest.raises(PlanNotFound, match="no plan revision 9"):
        lifecycle.find(registry, "flights", "9")


def test_the_beginning_of_several_digests_names_none(three):
    registry = three.registry
    for place, (plan, files, revision) in enumerate(registry.plans[:2]):
        digest = f"sha256:abcdef{place}" + revision.digest[14:]
        registry.plans[place] = (plan, files, revision.model_copy(update={"digest": digest}))
    with pytest.raises(RevisionAmbiguous, match=r"begin with abcdef: #1 \(abcdef0\w{13}…\), #2 \(abcdef1") as caught:
        lifecycle.find(registry, "flights", "abcdef")
    assert caught.value.exit_code == 2
    assert lifecycle.find(registry, "flights", "abcdef1").number == 2


def test_rollbacks_go_back_and_back_again(three):
    registry = three.registry
    assert lifecycle.rollback(registry, "flights", why="errors").to_number == 2
    assert lifecycle.rollback(registry, "flights").to_number == 1
    with pytest.raises(NothingToRollBack, match="revision #1 is the first"):
        lifecycle.rollback(registry, "flights")
    assert lifecycle.rollback(registry, "flights", to="3").to_number == 3
    with pytest.raises(NothingToRollBack, match="#3 is in force already"):
        lifecycle.rollback(registry, "flights", to="3")
    trail = [(entry.action, entry.to_number, entry.why) for entry in lifecycle.history(registry, "flights")]
    assert trail[3:] == [("rollback", 2, "errors"), ("rollback", 1, ""), ("rollback", 3, "")]


def test_pin_and_unpin(three):
    registry = three.registry
    before = registry.get_plan(registry.plan_in_force("flights"))[0]
    activation = lifecycle.pin(registry, "flights", "v2", why="incident-123")
    pinned = registry.get_plan(registry.plan_in_force("flights"))[0]
    assert (activation.action, activation.why) == ("pin", "incident-123")
    assert {arm.version: arm.share for arm in pinned.arms} == {"1": 0, "2": 1}
    assert pinned.policy.document == {"slots": [["2", 65536]]}
    assert pinned.around.holdout == 0
    assert (pinned.default, pinned.salt, pinned.parent) == (before.default, before.salt, before.digest)
    assert pinned.digest != before.digest
    lifecycle.pin(registry, "flights", "1")
    assert lifecycle.unpin(registry, "flights", why="over").to_number == 3
    assert registry.get_plan(registry.plan_in_force("flights"))[0].digest == before.digest
    with pytest.raises(NotPinned, match="found revision #3, which isn't a pin"):
        lifecycle.unpin(registry, "flights")


def test_rolling_back_a_pin_is_unpinning_it(three):
    lifecycle.pin(three.registry, "flights", "2")
    assert lifecycle.rollback(three.registry, "flights").to_number == 3


def test_pinning_the_same_version_twice_is_one_plan(three):
    first = lifecycle.pin(three.registry, "flights", "2")
    lifecycle.unpin(three.registry, "flights")
    assert lifecycle.pin(three.registry, "flights", "2").to_digest == first.to_digest


def test_pinning_what_is_pinned_says_so_and_stores_nothing(three):
    registry = three.registry
    lifecycle.pin(registry, "flights", "2")
    before = len(registry.plans), len(registry.activations)
    for name in ("2", "v2"):
        with pytest.raises(AlreadyPinned, match="pinned to version 2 already, by revision #4"):
            lifecycle.pin(registry, "flights", name)
    assert (len(registry.plans), len(registry.activations)) == before
    lifecycle.pin(registry, "flights", "1")
    lifecycle.pin(registry, "flights", "2")
    lifecycle.unpin(registry, "flights")
    assert in_force(three) == 3


def test_pin_a_version_that_is_no_arm_yet(three):
    registry = three.registry
    lifecycle.pin(registry, "flights", "3")
    pinned = registry.get_plan(registry.plan_in_force("flights"))[0]
    assert {arm.version: arm.share for arm in pinned.arms} == {"1": 0, "2": 0, "3": 1}
    three.add("4", carries_code=True, format="pickle")
    with pytest.raises(NoArmLeft, match="version 4: it is stored as pickle"):
        lifecycle.pin(registry, "flights", "4")
    lifecycle.pin(registry, "flights", "4", trust="pickle")
    assert registry.get_plan(registry.plan_in_force("flights"))[0].arm("4").trust == "pickle"
    three.add("5", inputs={"signal": "str"})
    with pytest.raises(ArmMissing, match="its input 'signal' is str, version 1's is float64"):
        lifecycle.pin(registry, "flights", "5")
    with pytest.raises(VersionNotFound):
        lifecycle.pin(registry, "flights", "9")


def test_pin_before_any_plan(split_world):
    lifecycle.pin(split_world.registry, "flights", "2")
    pinned = split_world.registry.get_plan(split_world.registry.plan_in_force("flights"))[0]
    assert [arm.version for arm in pinned.arms] == ["2"]
    with pytest.raises(NothingToRollBack, match="pinned before any plan"):
        lifecycle.unpin(split_world.registry, "flights")


def test_a_plan_after_a_pin_keeps_units_where_they_were(three):
    """A pin lasts an hour, assignments last: the next plan builds on the table below the pin."""
    registry = three.registry
    below = registry.get_plan(registry.plan_in_force("flights"))[0].policy
    lifecycle.pin(registry, "flights", "2")
    assert shares(three, **{"1": 0.5, "2": 0.5}).plan.policy.document == below.document


def test_diff_from_nothing_and_to_the_same(split_world):
    plan = shares(split_world, **{"1": 0.7, "2": 0.3}).plan
    texts = [change.text for change in diff(None, plan).changes]
    assert texts == [
        "+ version 1 (v1) joins with 73 %",
        "+ version 2 (v2) joins with 27 %",
        "+ policy weighted",
        "+ default arm 1",
    ]
    same = diff(plan, plan)
    assert not same
    assert str(same) == "flights: nothing changes."


def test_diff_names_what_changes(split_world):
    lifecycle.save(split_world.registry, segments(split_world))
    old = segments(split_world).plan
    split_world.add("3", {"AA": 0.3, "B6": 1.2, "DL": 0.3, "UA": 0.3}, noise=5)
    report = split_world.registry.reports["1"]
    split_world.registry.versions["1"] = split_world.registry.versions["1"].model_copy(
        update={"signature": Signature(inputs=(Field(name="signal", dtype="float32"),))}
    )
    split_world.registry.reports["1"] = report
    new = make_plan(
        split_world.registry,
        parse_spec(
            {
                "model": "flights",
                "policy": {"kind": "segment_best", "params": {"by": "carrier", "level": 0.9}},
                "around": {"fallback": 2, "shadow": [3]},
                "default": 2,
            }
        ),
    ).plan
    found = diff(old, new)
    texts = "\n".join(change.text for change in found.changes)
    assert "+ version 3 (v3) joins" not in texts  # This one has no label.
    assert "+ version 3 joins with 0 %" in texts
    assert "~ default: 1 → 2" in texts
    assert "~ around.fallback: none → 2" in texts
    assert "~ around.shadow: none → ['3']" in texts
    assert "~ policy.params.level: 0.95 → 0.9" in texts
    assert found.model_validate_json(found.model_dump_json()) == found
    back = "\n".join(change.text for change in diff(new, old).changes)
    assert "- version 3 leaves; it had 0 %" in back


def test_diff_of_cells(split_world):
    lifecycle.save(split_world.registry, segments(split_world))
    old = segments(split_world).plan
    split_world.add("2", {"AA": 1.0, "B6": 0.4, "DL": 0.4, "UA": 1.0}, label="v2")
    split_world.add("1", {"AA": 0.4, "B6": 1.0, "DL": 1.0, "UA": 0.4}, label="v1", aliases=("champion",))
    cells = [change.text for change in diff(old, segments(split_world).plan).changes if "segment" in change.text]
    assert cells == ["~ segment AA: version 1 → 2", "~ segment DL: version 2 → 1"]
