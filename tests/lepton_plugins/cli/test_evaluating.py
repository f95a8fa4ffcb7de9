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
