"""Evaluating what fails: versions, evaluators, a registry; and what may not be loaded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.evaluation.evaluate import EvaluationOptions

from .conftest import FEATURES, QUICK, Register, answering, run, save_estimator


def test_one_version_that_fails_has_a_report_that_says_so_and_the_others_go_on(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame, tmp_path: Path
) -> None:
    def nan(rows: pd.DataFrame) -> Any:
        answer = np.full((len(rows), 2), 0.5)
        answer[rows.x0.to_numpy() > 1.5] = np.nan
        return answer

    def crash(rows: pd.DataFrame) -> Any:
        raise KeyError("no such column")

    def quit_(rows: pd.DataFrame) -> Any:
        raise SystemExit(3)

    def shape(rows: pd.DataFrame) -> Any:
        return np.full((len(rows) + 1, 2), 0.5)

    def slow(rows: pd.DataFrame) -> Any:
        time.sleep(30)

    def broken_load() -> None:
        raise RuntimeError("built for another version")

    models = [nan, crash, quit_, shape, slow]
    register(trained["trees"])
    for model in models:
        register(save_estimator(answering(model), tmp_path / f"{model.__name__}.pkl"))
    register(save_estimator(answering(nan, on_load=broken_load), tmp_path / "load.pkl"))
    register(trained["linear"])
    begun = time.monotonic()
    reports = run(own, flights[[*FEATURES, "late"]], options=QUICK.model_copy(update={"time_limit": 2.0}))
    assert time.monotonic() - begun < 30
    found = [(r.failure.stage, r.failure.code) if r.failure else None for r in reports]
    assert found == [
        None,
        ("predict", "output_invalid"),
        ("predict", "model_failed"),
        ("predict", "model_failed"),
        ("predict", "output_unavailable"),
        ("predict", "timed_out"),
        ("load", "model_failed"),
        None,
    ]
    failure = reports[1].failure
    assert failure is not None
    rows = int((flights.x0 > 1.5).sum())
    assert f"NaN in {rows} of {len(flights)} rows (first: row {int((flights.x0 > 1.5).argmax())})" in failure.reason
    assert "no such column" in str(reports[2].failure)
    assert "built for another version" in str(reports[6].failure)
    for report in reports:
        assert own.get_report("flights", report.version) == report, "failed ones are stored too"


def test_formats_that_carry_code_need_leave_and_are_not_touched_without(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame, tmp_path: Path
) -> None:
    witness = tmp_path / "loaded"

    def touch() -> None:
        witness.touch()

    def half(rows: pd.DataFrame) -> Any:
        return np.full((len(rows), 2), 0.5)

    version = register(save_estimator(answering(half, on_load=touch), tmp_path / "m.pkl"))
    register(trained["linear"])
    witness.unlink(missing_ok=True)
    cautious = EvaluationOptions(cost_seconds=0.1)
    refused, other = run(own, flights[[*FEATURES, "late"]], options=cautious)
    assert refused.failure is not None
    assert (refused.failure.stage, refused.failure.code) == ("load", "trust_required")
    assert refused.carries_code
    assert "--trust pickle" in refused.failure.reason
    assert not witness.exists(), "its code didn't run, in no process"
    assert other.ok

    trusted, _ = run(own, flights[[*FEATURES, "late"]])
    assert trusted.ok
    assert witness.exists()
    again, _ = run(own, flights[[*FEATURES, "late"]], options=cautious)
    assert again.failure is not None
    assert any("earlier report stays" in note for note in again.notes)
    assert own.get_report("flights", version.version) == trusted


def test_a_version_that_needs_another_column_says_which(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame
) -> None:
    register(trained["signed"])
    register(trained["bare"])
    signed, bare = run(own, flights[["x0", "x1", "late"]].rename(columns={"x1": "x_1"}))
    assert signed.failure is not None
    assert signed.failure.code == "inputs_missing"
    assert "x1, x2, distance" in signed.failure.reason
    assert bare.failure is not None
    assert bare.failure.code == "inputs_missing", "it knows the columns that it was fitted on"
    assert "x1" in bare.failure.reason


def test_an_evaluator_that_fails_costs_nothing_but_its_own_files(
    own: MlflowRegistry,
    register: Register,
    trained: dict[str, Path],
    flights: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import lepton_evidently.evaluator

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("no rows")

    monkeypatch.setattr(lepton_evidently.evaluator.EvidentlyEvaluator, "evaluate", fail)
    register(trained["linear"])
    options = QUICK.model_copy(update={"evaluators": ("evidently",)})
    (report,) = run(own, flights[[*FEATURES, "late"]], options=options)
    assert report.ok
    assert any("'evidently' failed: ZeroDivisionError: no rows" in note for note in report.notes)
    assert own.get_report_file(report, "chart.png", tmp_path) is not None


def test_a_registry_that_may_not_be_written_costs_the_storing_only(
    own: MlflowRegistry,
    register: Register,
    trained: dict[str, Path],
    flights: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lepton_plugins.errors import RegistryReadOnly

    register(trained["linear"])

    def refuse(*_: Any) -> None:
        raise RegistryReadOnly("http://registry", "save a report")

    monkeypatch.setattr(own, "save_report", refuse)
    (report,) = run(own, flights[[*FEATURES, "late"]])
    assert report.metrics["accuracy"].value is not None
    assert report.run_id is None
    assert any(note.startswith("not stored: The registry at http://registry") for note in report.notes)
