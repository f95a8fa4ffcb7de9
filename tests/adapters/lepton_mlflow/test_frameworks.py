"""Files of frameworks that the tests don't install: registered, evaluated and answering where one is present."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_plugins.api import ModelRegistry
from lepton_plugins.evaluation.options import EvaluationOptions

FEATURES = ["a", "b", "c", "d"]


@pytest.fixture
def table() -> Any:
    import pandas as pd

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 4)).astype("float32")
    late = (rows @ [1, -1, 0.5, 0] + rng.logistic(size=600) > 0).astype(int)
    return pd.DataFrame(rows, columns=FEATURES).assign(late=late)


def _net() -> Any:
    torch = pytest.importorskip("torch", reason="torch is not installed: it is several gigabytes")
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1), torch.nn.Sigmoid())


def _proba(net: Any, table: Any) -> np.ndarray:
    import torch

    return np.asarray(net(torch.from_numpy(table[FEATURES].to_numpy())).detach())[:, 0]


def torch_module(table: Any, folder: Path) -> tuple[Path, np.ndarray]:
    import torch

    net = _net()
    torch.save(net, folder / "net.pt")
    return folder / "net.pt", _proba(net, table)


def torch_script(table: Any, folder: Path) -> tuple[Path, np.ndarray]:
    import torch

    net = _net()
    torch.jit.save(torch.jit.script(net), folder / "net.pt")
    return folder / "net.pt", _proba(net, table)


def xgboost(table: Any, folder: Path) -> tuple[Path, np.ndarray]:
    package = pytest.importorskip("xgboost", reason="xgboost is not installed")
    model = package.XGBClassifier(n_estimators=5).fit(table[FEATURES], table["late"])
    model.save_model(folder / "model.json")
    return folder / "model.json", model.predict_proba(table[FEATURES])[:, 1]


def lightgbm(table: Any, folder: Path) -> tuple[Path, np.ndarray]:
    package = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    model = package.LGBMClassifier(n_estimators=5, verbose=-1).fit(table[FEATURES], table["late"])
    model.booster_.save_model(folder / "model.txt")
    return folder / "model.txt", model.predict_proba(table[FEATURES])[:, 1]


@pytest.mark.parametrize(
    ("framework", "make"),
    [("torch", torch_module), ("torch", torch_script), ("xgboost", xgboost), ("lightgbm", lightgbm)],
    ids=["torch", "torchscript", "xgboost", "lightgbm"],
)
def test_a_file_of_the_framework_is_evaluated_as_the_framework_answers(
    framework: str, make: Callable[[Any, Path], tuple[Path, np.ndarray]], table: Any, sqlite_uri: str, tmp_path: Path
) -> None:
    if framework == "torch":
        _net()
    path, expected = make(table, tmp_path)
    registry = ModelRegistry(sqlite_uri)
    registry.register_model("late", path, model_framework=framework, model_version="v1")
    (report,) = registry.evaluate(
        "late", table, target="late", task="classification", options=EvaluationOptions(cost=False, trust="pickle")
    )
    assert report.failure is None
    truth = table["late"].to_numpy()
    by_hand = -np.mean(np.log(np.where(truth == 1, expected, 1 - expected)))
    assert report.metrics["log_loss"].value == pytest.approx(by_hand, abs=1e-6)


def test_weights_without_their_module_are_told_as_such(table: Any, sqlite_uri: str, tmp_path: Path) -> None:
    net = _net()
    import torch

    torch.save(net.state_dict(), tmp_path / "weights.pt")
    registry = ModelRegistry(sqlite_uri)
    registry.register_model("late", tmp_path / "weights.pt", model_framework="torch", model_version="v1")
    (report,) = registry.evaluate(
        "late", table, target="late", task="classification", options=EvaluationOptions(cost=False, trust="pickle")
    )
    assert report.failure is not None
    assert "state_dict" in report.failure.reason
