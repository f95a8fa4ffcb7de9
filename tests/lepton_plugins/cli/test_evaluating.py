"""Evaluating and comparing at the terminal, where something is wrong with a version, the data or the registry."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest


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
    import pandas as pd

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
