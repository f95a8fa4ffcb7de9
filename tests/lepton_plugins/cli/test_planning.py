"""Plans at the terminal: made, shown, put in force and taken back, on a real registry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from lepton_plugins import ModelRegistry

if TYPE_CHECKING:
    from conftest import Flights, Ran

Lepton = Callable[..., "Ran"]


def test_a_plan_is_shown_stored_and_put_in_force(lepton: Lepton, flights: Flights) -> None:
    dry = lepton("plan", "flights", "-f", flights.plan, "--dry-run", "-o", "json")
    assert dry.code == 0
    plan = json.loads(dry.out)
    assert plan["policy"]["kind"] == "segment_best"
    assert {arm["version"] for arm in plan["arms"]} == {"1", "2", "3"}
    assert plan["gain"]["low"] > 0
    assert lepton("diff", "flights", "-f", flights.plan).code == 1
    assert "nothing to promote" in lepton("promote", "flights").err, "a dry run stores nothing"
    stored = lepton("plan", "flights", "-f", flights.plan)
    assert stored.code == 0
    assert "not yet in force" in stored.err
    assert "best in UA" in stored.out
    changes = lepton("diff", "flights")
    assert changes.code == 1
    assert "+ version 2 (v2) joins" in changes.out
    assert lepton("promote", "flights", "1", "--why", "better on UA").code == 0
    assert lepton("diff", "flights").code == 0
    (entry,) = json.loads(lepton("history", "flights", "-o", "json").out)
    assert (entry["action"], entry["why"], entry["to_number"]) == ("promote", "better on UA", 1)
    assert "#1" in lepton("list").out


def test_a_dry_run_shows_what_more_resources_would_be_worth(lepton: Lepton, flights: Flights, tmp_path: Path) -> None:
    file = tmp_path / "budget.yaml"
    file.write_text(flights.plan.read_text() + "resources: {budget: {gpu: 1}}\n")
    dry = ("plan", "flights", "-f", file, "--dry-run")
    ran = lepton(*dry, "--what-if", "max_versions=1", "--what-if", "gpu=2,load=400/s")
    assert ran.code == 0
    assert re.search(r"gpu +0 GPUs +1 GPU +0 % +1 GPU +nothing", ran.out)
    assert re.search(r"max_versions=1 +version 1 100 %", ran.out)
    found = json.loads(lepton(*dry, "--what-if", "max_versions=1", "-o", "json").out)
    assert (found["margins"][0]["resource"], found["margins"][0]["worth"]) == ("gpu", 0)
    now, one = found["what_if"]
    assert set(now["shares"]) == {"1", "2", "3"}
    assert one["shares"] == {"1": 1}
    assert one["objective"] < now["objective"]
    wrong = lepton("plan", "flights", "-f", file, "--what-if", "gpu=2")
    assert wrong.code == 2
    assert "it needs --dry-run" in wrong.err


def test_the_hint_about_certain_decisions_comes_once_and_last(
    lepton: Lepton, promoted: Flights, tmp_path: Path
) -> None:
    certain = lepton("plan", "flights", "-f", promoted.plan)
    assert "Hint: each decision of this plan is certain" in " ".join(certain.out.split())
    assert certain.out[certain.out.index("Hint:") :].replace("\n", " ").strip().endswith("makes that possible.")
    assert certain.out.count("explore: 0.05") == 1
    shared = tmp_path / "shared.yaml"
    shared.write_text("{model: flights, policy: {kind: weighted, params: {shares: {1: 0.5, 2: 0.5}}}}")
    assert "Hint:" not in lepton("plan", "flights", "-f", shared).out


def test_what_is_printed_in_python_is_the_commands_table(lepton: Lepton, promoted: Flights) -> None:
    registry = ModelRegistry(promoted.uri)
    for value, command in (
        (registry.compare("flights", by="carrier"), ["compare", "flights", "--slice", "carrier"]),
        (registry.list_versions("flights"), ["list", "flights"]),
    ):
        shown = [line.rstrip() for line in lepton(*command).out.strip().splitlines()]
        assert str(value).splitlines() == shown
        assert f"{value}" == str(value)
    planned = str(registry.plan(promoted.plan, save=False))
    assert planned.startswith("flights: segment_best")
    assert "PlannedDeployment(" not in planned
    row = {"wind": 1.0, "delay": 0.2, "carrier": "UA"}
    with closing(registry.router("flights")) as router:
        assert str(router.explain(row)).startswith("Version 2 (v2) answers: best in UA")


def test_pin_unpin_and_rollback(lepton: Lepton, promoted: Flights) -> None:
    pinned = lepton("pin", "flights", "v2", "--why", "incident 7")
    assert pinned.code == 0
    assert "plan #2" in pinned.out
    assert lepton("pin", "flights", "--off").code == 0
    assert lepton("pin", "flights", "--off").code != 0
    actions = [entry["action"] for entry in json.loads(lepton("history", "flights", "-o", "json").out)]
    assert actions == ["promote", "pin", "unpin"]
    ran = lepton("rollback", "flights", "--to", "2", "--why", "again", "-o", "json")
    assert json.loads(ran.out)["action"] == "rollback"
    assert lepton("rollback", "flights", "--to", "9").code == 2


def test_a_plan_made_on_an_older_one_is_refused_without_force(
    lepton: Lepton, promoted: Flights, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("{model: flights, policy: {kind: weighted, params: {shares: {1: 0.5, 2: 0.5}}}}")
    assert lepton("plan", "flights", "-f", other).code == 0
    assert lepton("pin", "flights", "1").code == 0
    stale = lepton("promote", "flights", "2")
    assert stale.code == 1
    assert "--force" in stale.err
    assert lepton("promote", "flights", "2", "--force").code == 0
    assert "(forced)" in lepton("history", "flights").out


def test_a_plan_file_for_another_model_or_with_a_typo(lepton: Lepton, flights: Flights, tmp_path: Path) -> None:
    other = lepton("plan", "delays", "-f", flights.plan)
    assert other.code == 2
    assert "found a plan for the model 'flights', expected one for 'delays'" in other.err
    typo = tmp_path / "typo.yaml"
    typo.write_text("model: flights\npolicy: {kind: segment_bset, params: {by: [carrier]}}\n")
    ran = lepton("plan", "flights", "-f", typo)
    assert ran.code == 2
    assert "segment_best" in ran.err
