"""From a registry to a routed answer on the command line, on a real registry and a real server."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pandas as pd
import pytest
import yaml

from lepton_plugins import ModelRegistry
from lepton_plugins.testing import write_deployment

if TYPE_CHECKING:
    from conftest import Flights, Ran

Lepton = Callable[..., "Ran"]


@pytest.fixture
def promoted(lepton: Lepton, flights: Flights) -> Flights:
    """With a plan in force."""
    assert lepton("plan", "flights", "-f", flights.plan, "--promote", "--why", "first").code == 0
    return flights


def test_register_and_list(lepton: Lepton, flights: Flights) -> None:
    ran = lepton(
        *("register", "delays", flights.model(1), "--framework", "onnx", "--label", "v1"),
        *("--meta", "owner=ops", "--meta", "formula=a=b", "--meta", f"data={'x' * 90}", "-o", "json"),
    )
    assert ran.code == 0
    version = json.loads(ran.out)
    assert (version["version"], version["label"], version["framework"]) == ("1", "v1", "onnx")
    assert {"owner": "ops", "formula": "a=b"}.items() <= version["metadata"].items()
    models = {model["model"]: model for model in json.loads(lepton("list", "-o", "json").out)}
    assert models["delays"]["versions"] == 1
    assert models["flights"]["versions"] == 3
    assert yaml.safe_load(lepton("list", "flights", "-o", "yaml").out)[2]["label"] == "v3"
    assert "v2" in lepton("list", "flights").out
    lines = lepton("list", "delays").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [re.search(r"\bdata=x+…", line) is not None for line in lines].count(True) == 1, "cut, on one line"
    assert not any(re.search(r"(?<!=)\bx+", line) for line in lines)
    (full,) = json.loads(lepton("list", "delays", "-o", "json").out)
    assert full["metadata"]["data"] == "x" * 90


def test_a_label_that_is_taken_and_a_path_that_is_not_there(lepton: Lepton, flights: Flights) -> None:
    taken = lepton("register", "flights", flights.model(1), "--label", "v1")
    assert taken.code == 2
    assert "already has the label 'v1'" in taken.err
    missing = lepton("register", "flights", "nowhere.onnx")
    assert missing.code == 2
    assert "no such file or directory: nowhere.onnx" in missing.err
    assert len(json.loads(lepton("list", "flights", "-o", "json").out)) == 3


def test_an_unknown_model_tells_the_nearest(lepton: Lepton, flights: Flights) -> None:
    ran = lepton("list", "flihgts")
    assert ran.code == 2
    assert "Did you mean 'flights'?" in ran.err


def test_evaluate_shows_intervals_and_keeps_notes_off_stdout(lepton: Lepton, flights: Flights) -> None:
    arguments = ["evaluate", "flights", "--data", flights.data, "--target", "late", "--task", "classification"]
    ran = lepton(*arguments, "--versions", "1,v3", "--slice", "carrier", "--no-cost", "-o", "json")
    assert ran.code == 0
    reports = json.loads(ran.out)
    assert [report["version"] for report in reports] == ["1", "3"]
    assert {item["value"][0] for item in reports[0]["slices"]} == {"UA", "DL", "9E"}
    assert "lepton compare flights --slice carrier" in ran.err
    quiet = lepton(*arguments, "--versions", "1", "--no-cost", "-q")
    assert quiet.err == ""
    assert re.search(r"1 \(v1\) +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", quiet.out)


def test_what_a_run_measured_is_taken_over(lepton: Lepton, flights: Flights) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(flights.uri, flights.uri)
    run = client.create_run("0").info.run_id
    client.log_metric(run, "accuracy_score", 0.81)
    client.log_metric(run, "log_loss", 0.42)
    take_over = ["evaluate", "flights", "--from-run", run, "--versions", "v2", "-o", "json"]
    refused = lepton(*take_over)
    assert refused.code == 2
    assert "has a report that Lepton measured (june, 4,000 rows)" in refused.err
    assert len(json.loads(lepton("compare", "flights", "-o", "json").out)["versions"]) == 3
    ran = lepton(*take_over, "--force")
    assert ran.code == 0
    assert "nothing was measured by Lepton" in ran.err
    description = client.get_model_version("flights", "2").description
    assert "(rows unknown)" in description
    assert "| unknown" in description
    assert "| 0" not in description.replace("| 0.", "")
    (report,) = json.loads(ran.out)
    assert (report["version"], report["metrics"]["accuracy"]["value"]) == ("2", 0.81)
    assert report["metrics"]["log_loss"]["low"] is None
    assert lepton("evaluate", "flights", "--from-run", "no-such-run", "--versions", "2").code == 2


def test_a_version_that_fails_is_told_and_the_others_go_on(lepton: Lepton, flights: Flights, tmp_path: Path) -> None:
    line = write_deployment(tmp_path / "line").arms[0]  # y = 2x + 1: of a column that the data doesn't have.
    strange = tmp_path / "line" / "models" / line.artifact_digest.removeprefix("sha256:") / "model.onnx"
    assert lepton("register", "mixed", flights.model(1), "--framework", "onnx").code == 0
    assert lepton("register", "mixed", strange, "--framework", "onnx").code == 0
    arguments = ["evaluate", "mixed", "--data", flights.data, "--target", "late", "--task", "classification"]
    ran = lepton(*arguments, "--no-cost")
    assert ran.code == 0
    assert "warning: version 2 failed to" in ran.err
    assert re.search(r"^2 +failed to predict", ran.out, re.MULTILINE)
    assert "failed to\n" not in ran.out, "no column beside the figures"
    assert lepton(*arguments, "--versions", "2", "--no-cost").code == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--target", "lat"), "Did you mean 'late'"),
        (("--slice", "carier"), "Did you mean 'carrier'"),
        (("--context", "carier"), "Did you mean 'carrier'"),
        (("--versions", "7"), "has no version '7'"),
        (("--data", "nowhere.parquet"), "no such file or directory"),
    ],
)
def test_evaluate_says_what_is_wrong(lepton: Lepton, flights: Flights, change: tuple[str, str], told: str) -> None:
    arguments = ["evaluate", "flights", "--data", flights.data, "--target", "late", "--task", "classification"]
    ran = lepton(*arguments, *change)
    assert ran.code == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1


def test_compare_marks_the_best_in_80_columns(lepton: Lepton, flights: Flights, tmp_path: Path) -> None:
    ran = lepton("compare", "flights", "--slice", "carrier", "--picture", tmp_path / "carriers.png")
    assert ran.code == 0
    assert max(map(len, ran.out.splitlines())) <= 80
    (row,) = re.findall(r"carrier UA \(n=[\d,]+\).*★", ran.out)
    assert row
    assert (tmp_path / "carriers.png").read_bytes()[:4] == b"\x89PNG"
    comparison = json.loads(lepton("compare", "flights", "-o", "json").out)
    assert comparison["metric"] == "log_loss"


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


def test_pull_explain_and_predict(lepton: Lepton, promoted: Flights, tmp_path: Path) -> None:
    directory, row = tmp_path / "deployment", tmp_path / "row.json"
    assert lepton("pull", "flights", "--to", directory).out == f"{directory}\n"
    assert (directory / "plan.json").is_file()
    row.write_text('{"wind": 1.0, "delay": 0.2, "carrier": "UA", "customer": "c7"}')
    explained = json.loads(lepton("explain", directory, "--data", row, "-o", "json").out)
    assert explained["chosen"] == "2"
    assert [candidate["version"] for candidate in explained["candidates"]] == ["1", "2", "3"]
    assert "Version 2 (v2) answers: best in UA" in lepton("explain", "flights", "--data", row).out
    answers = tmp_path / "answers.parquet"
    ran = lepton(
        "predict", directory, "--data", promoted.folder / "july.csv", "--to", answers, "--decisions", "-o", "json"
    )
    assert ran.code == 0
    frame, asked = pd.read_parquet(answers), pd.read_csv(promoted.folder / "july.csv")
    assert len(frame) == len(asked) == json.loads(ran.out)["rows"]
    assert frame["version"].tolist() == asked["carrier"].map({"UA": "2", "DL": "3", "9E": "1"}).tolist()
    assert (frame["proba_0"] + frame["proba_1"]).round(6).eq(1).all()
    assert frame["decision"].is_unique


_SMALL_DISKS = (
    shutil.which("unshare")
    and not subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=10, check=False
    ).returncode
)


@pytest.mark.skipif(not _SMALL_DISKS, reason="this user can't mount a small disk of his own")
@pytest.mark.parametrize("kilobytes", [8, *(pytest.param(size, marks=pytest.mark.long) for size in (12, 16)), 24])
def test_a_disk_that_is_full_is_named_and_keeps_nothing_half_written(
    promoted: Flights, tmp_path: Path, kilobytes: int
) -> None:
    """Too small for the first model, for a later one, for the plan: each page is 4 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    lepton = f"{shlex.quote(sys.executable)} -m lepton_plugins.cli.main pull flights --to {disk}/flights"
    script = f"mount -t tmpfs -o size={kilobytes}k none {disk} && {{ {lepton}; echo $?; ls -A {disk}; }}"
    ran = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "2\n"
    assert ran.stderr == (
        f"error: No space is left on the disk of {disk}/flights. Free some there, or pull to another place; "
        f"nothing half-written was left.\n"
    )


def test_predict_tells_that_the_segment_column_is_missing(lepton: Lepton, promoted: Flights, tmp_path: Path) -> None:
    data, answers = tmp_path / "nocarrier.csv", tmp_path / "answers.csv"
    pd.read_csv(promoted.folder / "july.csv").drop(columns="carrier").to_csv(data, index=False)
    directory = tmp_path / "deployment"
    assert lepton("pull", "flights", "--to", directory).code == 0
    command = [sys.executable, "-m", "lepton_plugins.cli.main", "predict", directory, "--data", data, "--to", answers]
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=True)
    assert ran.stderr.count("has no column 'carrier'") == 1


def test_predict_answers_the_other_rows_where_a_null_leaves_some_without(
    lepton: Lepton, promoted: Flights, tmp_path: Path
) -> None:
    asked = pd.read_csv(promoted.folder / "july.csv")
    whole, some = tmp_path / "whole.csv", tmp_path / "some.csv"
    assert lepton("predict", "flights", "--data", promoted.folder / "july.csv", "--to", whole).code == 0
    asked.loc[[3, 40, 41, 150, 160, 199], "wind"] = None
    asked.to_csv(tmp_path / "nulls.csv", index=False)
    command = ["predict", "flights", "--data", tmp_path / "nulls.csv", "--to", some]

    refused = lepton(*command, "--on-null", "fail")
    assert refused.code == 2
    assert "Input 'wind' is null in row 3; version" in refused.err
    assert "nor for 5 more rows with a null" in refused.err
    assert not some.exists()

    ran = lepton(*command, "--log", tmp_path / "log", "--decisions", "-o", "json")
    assert ran.code == 1, "a script that looks at nothing else must not take it for whole"
    assert "6 of 200 rows stay without an answer, for a null: 3, 40, 41, 150, 160, …. Input 'wind' is null" in ran.err
    told = json.loads(ran.out)
    assert (told["rows"], told["unanswered"], sum(told["served"].values())) == (200, 6, 194)
    answers, before = pd.read_csv(some), pd.read_csv(whole)
    assert answers.index[answers["proba_1"].isna()].tolist() == [3, 40, 41, 150, 160, 199]
    assert answers["version"].isna().tolist() == answers["decision"].isna().tolist() == asked["wind"].isna().tolist()
    kept = answers["version"].notna()
    pd.testing.assert_frame_equal(answers.loc[kept, ["proba_0", "proba_1"]], before.loc[kept, ["proba_0", "proba_1"]])
    decision = answers["decision"][kept].iloc[-1]
    assert lepton("feedback", tmp_path / "log", decision, "--reward", "1").code == 0

    decided = lepton(*command, "--on-null", "empty")
    assert decided.code == 0
    assert "6 of 200 rows stay without an answer" in decided.err


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predict_on_an_empty_table_writes_an_empty_one_and_says_so(
    lepton: Lepton, promoted: Flights, tmp_path: Path, ending: str
) -> None:
    asked = pd.read_csv(promoted.folder / "july.csv").head(0)
    data, answers = tmp_path / f"none.{ending}", tmp_path / f"answers.{ending}"
    asked.to_parquet(data) if ending == "parquet" else asked.to_csv(data, index=False)
    ran = lepton("predict", "flights", "--data", data, "--to", answers)
    assert ran.code == 0
    assert ran.out == f"{data} has no rows: {answers} is written without any\n"
    frame = pd.read_parquet(answers) if ending == "parquet" else pd.read_csv(answers)
    assert frame.columns.tolist() == ["proba_0", "proba_1", "version"]
    assert frame.empty
    assert json.loads(lepton("predict", "flights", "--data", data, "--to", answers, "-o", "json").out)["rows"] == 0


def test_explain_reads_stdin(lepton: Lepton, promoted: Flights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"wind": 1.0, "delay": 0.2, "carrier": "DL"}'))
    assert "Version 3 (v3) answers" in lepton("explain", "flights", "--data", "-").out


def test_serving_an_unknown_model_says_so_once(lepton: Lepton, promoted: Flights, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "lepton_plugins.cli.main",
        "serve",
        "flihgts",
        "--port",
        "0",
        "--decisions",
        "none",
    ]
    ran = subprocess.run([*command, "-q"], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert "Did you mean 'flights'?" in ran.stderr


def test_feedback_into_a_log(lepton: Lepton, promoted: Flights, tmp_path: Path) -> None:
    log, answers = tmp_path / "log", tmp_path / "answers.csv"
    data = promoted.folder / "july.csv"
    assert lepton("predict", "flights", "--data", data, "--to", answers, "--decisions", "--log", log).code == 0
    rewards = pd.read_csv(answers)[["decision"]].assign(reward=1.0)
    rewards.to_csv(tmp_path / "rewards.csv", index=False)
    ran = lepton("feedback", log, "--data", tmp_path / "rewards.csv", "-o", "json")
    assert json.loads(ran.out) == {"stored": 200, "duplicates": 0, "unknown": []}
    again = lepton("feedback", log, rewards["decision"][0], "--reward", "0", "-o", "json")
    assert json.loads(again.out)["duplicates"] == 1
    unknown = lepton("feedback", log, "nobody/0", "--label", "late")
    assert unknown.code == 1
    assert "no such decision: nobody/0" in unknown.err


def test_serve_answers_follows_the_registry_and_takes_feedback(
    lepton: Lepton, promoted: Flights, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", "flights", "--port", "0"]
    command += ["--decisions", str(tmp_path / "decisions"), "--registry", promoted.uri]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://[\d.:]+", line)
        assert address is not None, (line, process.stderr.read() if process.stderr else "")
        url = address[0]
        body = {"dataframe_records": [{"wind": 1.0, "delay": 0.2, "carrier": "UA"}]}
        answer = httpx.post(f"{url}/invocations", json=body)
        assert answer.status_code == 200
        assert answer.headers["x-lepton-version"] == "2"
        decision = answer.headers["x-lepton-decision"]
        decision = decision if "/" in decision else f"{decision}/0"
        told = lepton("feedback", url, decision, "--reward", "1", "-o", "json")
        assert json.loads(told.out) == {"stored": 1, "duplicates": 0, "unknown": []}
        refused = lepton("feedback", f"{url}/nowhere", decision, "--reward", "1")
        assert refused.code == 2
        assert "answered 404" in refused.err
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_serve_without_a_plan_says_so(lepton: Lepton, flights: Flights) -> None:
    ran = lepton("serve", "flights", "--port", "0")
    assert ran.code == 2, ran.err
    assert "no plan in force" in ran.err


@pytest.fixture
def delays(lepton: Lepton, flights: Flights) -> Flights:
    """With a model whose files no other test reads, evaluated."""
    assert lepton("register", "delays", flights.model(1), "--framework", "onnx", "--label", "v1").code == 0
    arguments = ["evaluate", "delays", "--data", flights.data, "--target", "late", "--task", "classification"]
    assert lepton(*arguments, "--no-cost").code == 0
    return flights


def test_purge_asks_a_person(lepton: Lepton, delays: Flights, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    refused = lepton("purge", "delays")
    assert (refused.code, refused.out) == (1, "")
    assert "Remove" in refused.err
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert lepton("purge", "delays").code == 0
    assert json.loads(lepton("purge", "delays", "--dry-run", "-o", "json").out) == []


def test_purge_removes_only_what_lepton_wrote(lepton: Lepton, delays: Flights) -> None:
    dry = json.loads(lepton("purge", "delays", "--dry-run", "-o", "json").out)
    assert any("experiment 'lepton/delays'" in line for line in dry)
    assert lepton("compare", "delays").code == 0, "a dry run removes nothing"
    unasked = lepton("purge", "delays")
    assert unasked.code == 2
    assert "--yes" in unasked.err
    assert json.loads(lepton("purge", "delays", "--yes", "-o", "json").out) == dry
    assert lepton("compare", "delays").code != 0
    assert len(json.loads(lepton("list", "delays", "-o", "json").out)) == 1
    assert lepton("compare", "flights").code == 0, "another model's reports stay"


def test_doctor_repairs_the_champions_alias(lepton: Lepton, promoted: Flights) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(promoted.uri, promoted.uri)
    client.set_registered_model_alias("flights", "lepton-champion", "3")
    broken = lepton("doctor")
    assert broken.code == 1
    assert "lepton doctor --fix" in broken.out
    assert lepton("doctor", "--fix").code == 0
    assert str(client.get_model_version_by_alias("flights", "lepton-champion").version) == "1"
    assert lepton("doctor").code == 0
