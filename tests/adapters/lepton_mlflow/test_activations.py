"""Which plan is in force: one answer, whoever promotes at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lepton_plugins.errors import PlanNotFound, PlanStale, PromotionLost, RecordMismatch

_PROMOTER = Path(__file__).parent / "promoter.py"


@pytest.fixture
def model(registry, register) -> str:
    """A model with two versions."""
    register("v1")
    return register("v2").model


@pytest.fixture
def plans(registry, model, plan_of):
    made = [plan_of(model, f"{number:02x}") for number in range(3)]
    for plan, files in made:
        registry.save_plan(plan, files, "")
    return [plan for plan, _ in made]


def test_promoting_puts_a_plan_in_force_and_leaves_a_trail(registry, client, model, plans, activation_of):
    assert registry.plan_in_force(model) is None
    first = registry.activate(activation_of(plans[0], 1), None, force=False)
    assert registry.plan_in_force(model).digest == plans[0].digest
    second = registry.activate(activation_of(plans[1], 2, action="rollback"), plans[0].digest, force=False)
    trail = registry.list_activations(model)
    assert trail == [first, second]
    assert [(entry.from_digest, entry.to_digest) for entry in trail] == [
        (None, plans[0].digest),
        (plans[0].digest, plans[1].digest),
    ]
    assert (trail[0].who, trail[0].why, trail[0].evidence) == (
        "ada",
        "better on every carrier",
        {"reports": {"1": "run"}},
    )
    found = client.get_registered_model(model)
    assert {alias: str(number) for alias, number in found.aliases.items()} == {"lepton-champion": "1"}
    assert found.description.startswith("Plan #2 in force: segment_best, 2 arms")
    assert len(found.tags["lepton.plan"]) < 5000
    (summary,) = [entry for entry in registry.list_models() if entry.model == model]
    assert (summary.versions, summary.latest, summary.in_force) == (2, "2", f"#2 {plans[1].digest[7:19]}")


def test_a_plan_made_on_top_of_another_is_stale(registry, model, plans, activation_of):
    registry.activate(activation_of(plans[0], 1), None, force=False)
    with pytest.raises(PlanStale, match=r"#2 .*no plan.*#1"):
        registry.activate(activation_of(plans[1], 2), None, force=False)
    forced = registry.activate(activation_of(plans[1], 2), None, force=True)
    assert forced.forced
    assert forced.from_digest == plans[0].digest
    assert registry.plan_in_force(model).number == 2


def test_a_plan_that_is_not_stored_cannot_be_promoted(registry, model, plan_of, activation_of):
    with pytest.raises(PlanNotFound):
        registry.activate(activation_of(plan_of(model)[0], 1), None, force=False)


def test_long_evidence_is_kept_whole(registry, model, plans, activation_of):
    evidence = {"rows": ["é" * 100] * 200}
    registry.activate(activation_of(plans[0], 1, evidence=evidence, why="w" * 9000), None, force=False)
    (entry,) = registry.list_activations(model)
    assert (entry.evidence, len(entry.why)) == (evidence, 9000)


def test_a_tag_that_speaks_of_another_model_is_not_believed(registry, client, model, plans, activation_of):
    registry.activate(activation_of(plans[0], 1), None, force=False)
    value = json.loads(client.get_registered_model(model).tags["lepton.plan"])
    client.set_registered_model_tag(model, "lepton.plan", json.dumps({**value, "model": "other"}))
    with pytest.raises(RecordMismatch, match="other"):
        registry.plan_in_force(model)
    client.set_registered_model_tag(model, "lepton.plan", json.dumps({**value, "digest": "sha256:" + "0" * 64}))
    with pytest.raises(RecordMismatch):
        registry.plan_in_force(model)


def test_repair_sets_what_is_derived(registry, client, model, plans, activation_of):
    registry.activate(activation_of(plans[0], 1), None, force=False)
    registry.activate(activation_of(plans[1], 2), plans[0].digest, force=False)
    assert registry.repair(model) == []
    # As after a promoter that died between its entry and the tag, and a hand at the alias.
    client.delete_registered_model_tag(model, "lepton.plan")
    client.set_registered_model_alias(model, "lepton-champion", "2")
    assert len(registry.repair(model, dry_run=True)) == 2
    assert registry.plan_in_force(model) is None
    assert len(registry.repair(model)) == 2
    assert registry.plan_in_force(model).number == 2
    assert str(client.get_registered_model(model).aliases["lepton-champion"]) == "1"


def test_the_next_promotion_sees_an_entry_whose_tag_was_never_written(registry, client, model, plans, activation_of):
    registry.activate(activation_of(plans[0], 1), None, force=False)
    client.delete_registered_model_tag(model, "lepton.plan")
    with pytest.raises(PlanStale):
        registry.activate(activation_of(plans[1], 2), None, force=False)
    assert registry.plan_in_force(model).number == 1


def _rounds(registry, model, plan_of, activation_of, rounds, rivals, race):
    """Each round several promoters expect the same plan; `race` returns each one's error or None."""
    in_force = None
    for number in range(rounds):
        plans = [plan_of(model, f"{number:02x}{rival:02x}", parent=in_force) for rival in range(rivals)]
        revisions = [registry.save_plan(plan, files, "") for plan, files in plans]
        activations = [
            activation_of(plan, revision.number) for (plan, _), revision in zip(plans, revisions, strict=True)
        ]
        outcomes = race(activations, in_force)
        winners = [activation for activation, error in zip(activations, outcomes, strict=True) if error is None]
        assert len(winners) == 1, outcomes
        assert {error for error in outcomes if error} <= {"plan_stale", "promotion_lost"}
        assert registry.plan_in_force(model).digest == winners[0].to_digest
        in_force = winners[0].to_digest
    trail = registry.list_activations(model)
    assert len(trail) == rounds
    assert [entry.from_digest for entry in trail] == [None, *(entry.to_digest for entry in trail[:-1])]


def test_of_threads_that_promote_at_once_exactly_one_wins(registry_uri, registry, model, plan_of, activation_of):
    def race(activations, expected):
        outcomes: list[str | None] = [None] * len(activations)
        start = threading.Barrier(len(activations))

        def promote(index: int) -> None:
            own = type(registry)(registry_uri)
            own.plan_in_force(model)
            start.wait()
            try:
                own.activate(activations[index], expected, force=False)
            except (PlanStale, PromotionLost) as error:
                outcomes[index] = error.code

        threads = [threading.Thread(target=promote, args=(index,)) for index in range(len(activations))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes

    _rounds(registry, model, plan_of, activation_of, 3, 3, race)


@pytest.fixture(scope="module")
def promoters():
    """Two processes that promote on order."""
    started = [
        subprocess.Popen([sys.executable, str(_PROMOTER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    yield started
    for process in started:
        process.stdin.close()
        process.wait(30)


@pytest.mark.parametrize("rounds", [3, pytest.param(25, marks=pytest.mark.long)])
def test_of_processes_that_promote_at_once_exactly_one_wins(
    registry_uri, registry, model, plan_of, activation_of, promoters, rounds
):
    def race(activations, expected):
        for promoter, activation in zip(promoters, activations, strict=True):
            order = {"uri": registry_uri, "activation": activation.model_dump(mode="json"), "expected": expected}
            promoter.stdin.write(json.dumps(order) + "\n")
        for promoter in promoters:
            promoter.stdin.flush()
        answers = [promoter.stdout.readline().strip() for promoter in promoters]
        return [None if answer == "won" else answer for answer in answers]

    _rounds(registry, model, plan_of, activation_of, rounds, len(promoters), race)


def test_forced_promotions_at_once_all_happen_one_after_the_other(registry_uri, registry, model, plans, activation_of):
    def promote(plan, number):
        type(registry)(registry_uri).activate(activation_of(plan, number), None, force=True)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(promote, plan, index + 1) for index, plan in enumerate(plans)]:
            done.result()
    trail = registry.list_activations(model)
    assert len(trail) == 3
    assert [entry.from_digest for entry in trail] == [None, *(entry.to_digest for entry in trail[:-1])]
    assert registry.plan_in_force(model).digest == trail[-1].to_digest


def test_a_user_without_a_name_can_promote(registry, model, plan_of, activation_of, monkeypatch):
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1000700000")

    monkeypatch.setattr("getpass.getuser", nameless)
    plan, files = plan_of(model, "aa")
    assert registry.save_plan(plan, files, "").created_by == "unknown"
    registry.activate(activation_of(plan, 1), None, force=False)
    assert registry.plan_in_force(model).digest == plan.digest
