"""examples/flights runs on a registry given by its address; its plan then goes through each target's example."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from lepton_plugins import ModelRegistry

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "flights"


def run(script: Path, *arguments: object, cwd: Path) -> str:
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The registry that the script leaves, and what it says."""
    folder = tmp_path_factory.mktemp("flights")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    return uri, run(EXAMPLE / "flights.py", uri, "--sample", "0.05", cwd=folder)


@pytest.fixture(scope="module")
def deployment(flights: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ModelRegistry(flights[0]).pull("flights", tmp_path_factory.mktemp("pulled") / "deployment")


def test_the_script_goes_from_registering_to_routed_answers(flights: tuple[str, str]) -> None:
    said = flights[1]
    assert re.search(r"November, routed: log loss 0\.\d{4}", said)
    for version in re.findall(r"version (\d+) alone: log loss 0\.\d{4}", said):
        assert version in {"1", "2", "3"}


def test_the_plan_file_is_the_quickstarts() -> None:
    packaged = files("lepton_plugins.quickstart").joinpath("plan.yaml").read_text(encoding="utf-8")
    assert (EXAMPLE / "plan.yaml").read_text(encoding="utf-8") == packaged


def test_the_mlflow_target(flights: tuple[str, str], deployment: Path, tmp_path: Path) -> None:
    said = run(EXAMPLES / "mlflow_target" / "mlflow_target.py", deployment, flights[0], cwd=tmp_path)
    assert "registered as models:/flights-router/1\nanswered 1000 flights" in said
    assert re.search(r"^[123] +\S", said, re.M), "who answered"


def test_the_bentoml_target(deployment: Path, tmp_path: Path) -> None:
    pytest.importorskip("bentoml")
    said = run(EXAMPLES / "bentoml_target" / "bentoml_target.py", deployment, cwd=tmp_path)
    assert "answered 1000 flights" in said
    assert re.search(r"^[123] +\S", said, re.M), "who answered"


def test_the_kserve_target(deployment: Path, tmp_path: Path) -> None:
    pytest.importorskip("kserve")
    said = run(EXAMPLES / "kserve_target" / "kserve_target.py", deployment, cwd=tmp_path)
    assert said.startswith(".lepton-generated\ninferenceservice.yaml\nkustomization.yaml\nplan.yaml\n")
    assert re.search(r"answered 1000 flights, \d+% of them expected late", said)
