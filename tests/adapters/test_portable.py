"""What a target renders of a plan made on this machine names nothing of it."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from lepton_plugins import ModelRegistry
from lepton_plugins.evaluation.options import EvaluationOptions
from lepton_plugins.testing.deployment import write_deployment

OPTIONS: dict[str, dict[str, str]] = {"mlflow": {}, "bentoml": {}, "kserve": {"models": "s3://bucket/models"}}


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> tuple[Path, Path]:
    """A deployment directory of a plan made on a registry in a folder; one version's files are lost."""
    folder = tmp_path_factory.mktemp("registry-of-mine")
    shutil.copyfile(mlflow_template, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", (f"{folder}/mlruns/0",))
    write_deployment(folder / "made")
    registry = ModelRegistry(f"sqlite:///{folder}/mlflow.db")
    for path in sorted((folder / "made" / "models").iterdir()):
        registry.register_model("line", path / "model.onnx", model_framework="onnx")
    lost = registry.register_model("line", path / "model.onnx", model_framework="onnx")
    assert lost.source is not None
    shutil.rmtree(lost.source)
    data = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0] * 20, "y": [1.0, 3.0, 5.0, 7.0] * 20}).astype("float32")
    registry.evaluate("line", data, target="y", task="regression", options=EvaluationOptions(cost=False))
    registry.plan({"model": "line", "policy": {"kind": "weighted", "params": {"shares": {"1": 0.5, "2": 0.5}}}})
    registry.promote("line")
    return folder, registry.pull("line", folder / "deployment")


@pytest.mark.parametrize("target", sorted(OPTIONS))
def test_an_artefact_holds_no_path_of_this_machine(target: str, pulled: tuple[Path, Path], tmp_path: Path) -> None:
    """But for the versions' own files, which stay as they are to the byte: MLflow writes its address into MLmodel."""
    folder, directory = pulled
    to = tmp_path / "to"
    ModelRegistry("sqlite://").generate(directory, target, to, OPTIONS[target])
    plan = (directory / "plan.json").read_text()
    assert '"rejected":[{' in plan
    words = {str(folder), str(Path.home()) + "/", "/tmp/", str(Path.cwd()), str(Path(sys.prefix)), "mlruns"}
    own = [f"models/{path.name}/" for path in (directory / "models").iterdir()]
    for file in sorted(path for path in to.rglob("*") if path.is_file()):
        if any(part in file.as_posix() for part in own):
            continue
        content = file.read_bytes()
        assert [word for word in words if word.encode() in content] == [], file.relative_to(to)
