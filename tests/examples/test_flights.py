"""examples/flights: the script runs on a registry given by its address, and its plan file is the quickstart's."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"


def test_the_script_goes_from_registering_to_routed_answers(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "flights.py"), f"sqlite:///{tmp_path / 'mlflow.db'}", "--sample", "0.05"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    assert re.search(r"November, routed: log loss 0\.\d{4}", done.stdout)
    for version in re.findall(r"version (\d+) alone: log loss 0\.\d{4}", done.stdout):
        assert version in {"1", "2", "3"}


def test_the_plan_file_is_the_quickstarts() -> None:
    packaged = files("lepton_plugins.quickstart").joinpath("plan.yaml").read_text(encoding="utf-8")
    assert (EXAMPLE / "plan.yaml").read_text(encoding="utf-8") == packaged
