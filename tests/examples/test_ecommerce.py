"""examples/ecommerce: two recommenders on ML-100k, combined by weight. Needs `pip install --no-deps recbole`."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lepton_plugins.planning.spec_file import read_spec

EXAMPLE = Path(__file__).parents[2] / "examples" / "ecommerce"


@pytest.mark.long
@pytest.mark.skipif(find_spec("recbole") is None, reason="the ratings come with recbole, which isn't installed")
def test_a_and_b_together(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "ecommerce.py"), f"sqlite:///{tmp_path / 'mlflow.db'}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    a, b, both = (float(found) for found in re.findall(r"mean squared error (\d\.\d{4})", done.stdout))
    assert a < both < b
    assert "why: 0.7 × version 1 + 0.3 × version 2" in done.stdout


def test_the_plan_file_has_the_weights() -> None:
    assert {
        str(version): weight for version, weight in read_spec(EXAMPLE / "plan.yaml").policy.params["weights"].items()
    } == {"1": 0.7, "2": 0.3}
