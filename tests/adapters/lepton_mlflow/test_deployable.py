"""Which deployment a model URI of `mlflow deployments` stands for."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pandas as pd
import pytest

from lepton_mlflow.deployable import Refused, deployment_of, refusals
from lepton_plugins import ModelRegistry
from lepton_plugins.errors import InvalidInput, LeptonError, ModelNotFound, NotARouter, PlanNotFound
from lepton_plugins.evaluation.options import EvaluationOptions
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.testing import write_deployment


@pytest.fixture(scope="module")
def line(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """Two versions of `line` with a plan in force and one before it; `line-router` is the former's rendering."""
    import shutil
    import sqlite3
    from contextlib import closing

    folder = tmp_path_factory.mktemp("deployable")
    shutil.copyfile(mlflow_template, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", (f"{folder}/mlruns/0",))
    registry = ModelRegistry(f"sqlite:///{folder}/mlflow.db")
    write_deployment(folder / "made")
    for path in sorted((folder / "made" / "models").iterdir()):
        registry.register_model("line", path / "model.onnx", model_framework="onnx")
    data = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0] * 20, "y": [1.0, 3.0, 5.0, 7.0] * 20}).astype("float32")
    registry.evaluate("line", data, target="y", task="regression", options=EvaluationOptions(cost=False))
    for share in (0.5, 0.2):
        shares = {"1": share, "2": 1 - share}
        registry.plan({"model": "line", "policy": {"kind": "weighted", "params": {"shares": shares}}})
        registry.promote("line")
    registry.generate(
        registry.pull("line", folder / "deployment"),
        "mlflow",
        folder / "rendered",
        {"register_as": "line-router", "registry": f"sqlite:///{folder}/mlflow.db"},
    )
    return registry


@pytest.fixture(autouse=True)
def _setting(line: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `mlflow deployments` finds it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", line.registry.uri)
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def in_force(line: ModelRegistry) -> str:
    found = line.registry.plan_in_force("line")
    assert found is not None
    return found.digest


@pytest.mark.parametrize("uri", ["models:/line", "models:/line/plan", "models:/line-router/1"])
def test_the_plan_in_force_and_its_router(uri: str, line: ModelRegistry, tmp_path: Path) -> None:
    opened = DeploymentDirectory.open(deployment_of(uri, tmp_path))
    assert opened.plan.digest == in_force(line)
    for arm in opened.plan.arms:
        opened.check_model(arm)


def test_an_alias_and_a_path_lead_there_too(line: ModelRegistry, tmp_path: Path) -> None:
    mlflow.MlflowClient().set_registered_model_alias("line-router", "champion", "1")
    assert DeploymentDirectory.open(deployment_of("models:/line-router@champion", tmp_path)).plan.model == "line"
    rendered = tmp_path / "rendered"
    line.generate(deployment_of("models:/line/plan", tmp_path), "mlflow", rendered)
    assert deployment_of(str(rendered), tmp_path) == rendered / "artifacts" / "deployment"


def test_a_revision_before(line: ModelRegistry, tmp_path: Path) -> None:
    first = line.revision("line", 1)
    assert DeploymentDirectory.open(deployment_of("models:/line/plan", tmp_path, "1")).plan.digest == first.digest
    with pytest.raises(InvalidInput, match="goes with -m models:/NAME/plan"):
        deployment_of("models:/line-router/1", tmp_path / "other", "1")


@pytest.mark.parametrize(
    ("uri", "error", "told"),
    [
        (
            "models:/line/1",
            NotARouter,
            "-m models:/line/plan; a router in the registry comes from: lepton generate line",
        ),
        ("models:/nobody/plan", ModelNotFound, "nobody"),
        ("models:/line-router/plan", PlanNotFound, "line-router"),
        ("models:/nobody/1", NotARouter, "found no router there"),
        ("runs:/0123/model", NotARouter, "found no router there"),
        ("/srv/nothing", NotARouter, "found no router there"),
    ],
)
def test_what_is_no_router_says_what_to_do(uri: str, error: type[LeptonError], told: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=told):
        deployment_of(uri, tmp_path)


def test_refusals_are_mlflows() -> None:
    with pytest.raises(Refused) as caught, refusals():
        raise ModelNotFound("line", [])
    assert isinstance(caught.value, mlflow.exceptions.MlflowException)
    assert caught.value.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
    assert caught.value.format_message() == str(caught.value)
