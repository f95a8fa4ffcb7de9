"""Versions that bring code into one process: each is the model that its own files say, or is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from lepton_mlflow.own_code import CodeClashes
from lepton_plugins.routing.loading import load_version

SIGNATURE = ModelSignature(Schema([ColSpec("double", "a")]), Schema([ColSpec("double")]))
ROWS = {"a": np.ones(3)}

FROM_CODE = """
import time
import mlflow

class Gives(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["a"].to_numpy() * {value}

mlflow.models.set_model(Gives())
time.sleep({seconds})
"""

SCORER = """
import mlflow

VALUE = {value}

class Gives(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["a"].to_numpy() * VALUE
"""

SAVE = """
import sys; sys.path.insert(0, sys.argv[1])
import {name}, mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
signature = ModelSignature(Schema([ColSpec("double", "a")]), Schema([ColSpec("double")]))
mlflow.pyfunc.save_model(sys.argv[2], python_model={name}.Gives(), code_paths=[sys.argv[1] + "/{name}.py"],
    signature=signature, pip_requirements=[])
"""


@pytest.fixture
def bringing(tmp_path: Path) -> Callable[[str, str, int], Path]:
    """A version whose class stands in a module of its own, which `code_paths` brings along."""

    def make(folder: str, name: str, value: int) -> Path:
        source = tmp_path / f"source-{folder}"
        source.mkdir()
        (source / f"{name}.py").write_text(SCORER.format(value=value))
        command = [sys.executable, "-c", SAVE.format(name=name), str(source), str(tmp_path / folder)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return tmp_path / folder

    return make


def answers(path: Path) -> list[float]:
    loaded = load_version(path, "1", trust="pickle")[0]
    return [float(value) for value in loaded.predict(ROWS, "value")]


def test_models_from_code_that_load_at_once_are_each_their_own(tmp_path: Path) -> None:
    """MLflow keeps what `set_model` was given in one place: the one that takes longer would be the other."""
    for value, seconds in ((2, 0.5), (3, 0.0), (4, 0.2)):
        script = tmp_path / f"m{value}.py"
        script.write_text(FROM_CODE.format(value=value, seconds=seconds))
        mlflow.pyfunc.save_model(
            tmp_path / str(value), python_model=str(script), signature=SIGNATURE, pip_requirements=[]
        )
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(answers, [tmp_path / str(value) for value in (2, 3, 4)]))
    assert found == [[2.0] * 3, [3.0] * 3, [4.0] * 3]
    assert "dbutils" not in sys.modules  # What MLflow puts there meanwhile.


def test_a_module_that_another_version_has_otherwise_is_refused(bringing: Callable[[str, str, int], Path]) -> None:
    assert answers(bringing("first", "lepton_test_scorer", 2)) == [2.0] * 3
    other = bringing("second", "lepton_test_scorer", 3)
    with pytest.raises(CodeClashes, match="'lepton_test_scorer' of other content"):
        answers(other)
    assert answers(bringing("third", "lepton_test_scorer", 2)) == [2.0] * 3
    assert answers(bringing("fourth", "lepton_test_scorer_4", 4)) == [4.0] * 3


def test_a_module_that_is_installed_otherwise_is_refused(
    bringing: Callable[[str, str, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lepton_test_installed.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("lepton_test_installed")
    with pytest.raises(CodeClashes, match="'lepton_test_installed'"):
        answers(bringing("first", "lepton_test_installed", 2))
