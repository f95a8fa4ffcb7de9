"""Registering, listing, removing and repairing at the terminal, on a real registry."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from conftest import Flights, Ran

Lepton = Callable[..., "Ran"]


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
