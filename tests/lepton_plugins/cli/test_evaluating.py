"""Evaluating and comparing at the terminal, also where something is wrong with a version, the data or the registry."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from lepton_plugins.testing import write_deployment

if TYPE_CHECKING:
    from conftest import Flights, Ran

Lepton = Callable[..., "Ran"]


def _lose_files(flights: Any, tmp_path: Any, version: str) -> None:
    """The files of a version's evaluation are gone; its tags in the registry are still there."""
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        changed = database.execute(
            "UPDATE runs SET artifact_uri = ? WHERE run_uuid IN "
            "(SELECT run_uuid FROM tags WHERE key = 'lepton.version' AND value = ?)",
            (f"{tmp_path}/gone", version),
        )
        assert changed.rowcount == 1


def test_a_report_whose_files_are_gone_costs_its_own_version_only(
    lepton: Callable[..., Any], flights: Any, tmp_path: Any
) -> None:
    _lose_files(flights, tmp_path, "1")
    ran = lepton("compare", "flights", "-o", "json")
    assert ran.code == 0, ran.err
    compared = json.loads(ran.out)
    assert [version["version"] for version in compared["versions"]] == ["2", "3"]
    (left_out,) = compared["left_out"]
    assert left_out["version"] == "1"
    assert "failed to read the report of version 1" in left_out["reason"]
    assert "No such" in left_out["reason"], "the cause, not its heading"
    ran = lepton("plan", "flights", "-f", flights.plan, "--dry-run", "-o", "json")
    assert ran.code == 0, ran.err
    (rejected,) = json.loads(ran.out)["rejected"]
    assert (rejected["version"], rejected["code"]) == ("1", "registry_failed")
    assert "No such" in rejected["reason"]


def test_a_registry_that_is_not_there_is_an_error(
    lepton: Callable[..., Any], flights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (["compare", "flights"], ["plan", "flights", "-f", flights.plan, "--dry-run"]):
        ran = lepton(*command, "--registry", "http://127.0.0.1:9")
        assert ran.code == 2
        assert "doesn't answer" in ran.err


def test_notes_are_told_once_and_what_was_not_stored_is_a_warning(
    lepton: Callable[..., Any], flights: Any, tmp_path: Any
) -> None:

    june = pd.read_parquet(flights.data)
    asked = ["evaluate", "flights", "--target", "late", "--task", "classification", "--no-cost"]
    june.astype({"late": float}).assign(late=june.late.mask(june.index < 6)).to_parquet(tmp_path / "holes.parquet")
    ran = lepton(*asked, "--data", tmp_path / "holes.parquet")
    assert ran.code == 0
    assert ran.err.count("6 of 4000 rows have no target and were left out") == 1
    assert "all versions: 6 of 4000" in ran.err
    june.drop(columns="delay").to_parquet(tmp_path / "narrow.parquet")
    ran = lepton(*asked, "--data", tmp_path / "narrow.parquet", "-q")
    assert ran.code == 1, "all failed"
    assert ran.err.count("warning: all versions: not stored: its earlier report stays (on 'holes')") == 1
    assert len(json.loads(lepton("compare", "flights", "-o", "json").out)["versions"]) == 3


def test_on_a_registry_that_may_only_be_read_the_reports_are_shown_with_a_warning(
    lepton: Callable[..., Any], flights: Any, tmp_path: Any
) -> None:
    read_only = f"sqlite:///file:{tmp_path / 'mlflow.db'}?mode=ro&uri=true"
    ran = lepton(
        *("evaluate", "flights", "--data", flights.data, "--target", "late", "--task", "classification"),
        *("--no-cost", "-q", "--registry", read_only),
    )
    assert ran.code == 0
    assert "1 (v1)" in ran.out
    (warning,) = ran.err.strip().splitlines()
    assert warning.startswith("warning: all versions: not stored: The registry at sqlite:///file:")
    assert "doesn't let you save the report of 'flights': permission denied" in warning


def test_purging_says_what_mlflow_keeps(lepton: Callable[..., Any], flights: Any) -> None:
    assert lepton("register", "other", flights.model(1), "--label", "v1").code == 0
    ran = lepton("purge", "other", "--yes")
    assert ran.code == 0
    assert "mlflow gc" in ran.err
    assert lepton("purge", "other", "--yes").err == "Lepton wrote nothing here.\n"


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
