"""Routed answers at the terminal: explained, predicted, fed back."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

if TYPE_CHECKING:
    from conftest import Flights, Ran

Lepton = Callable[..., "Ran"]


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
