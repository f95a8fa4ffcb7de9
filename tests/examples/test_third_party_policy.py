"""A third party's plugin, installed from its own distribution into an environment of its own, as a stranger would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_policy"


def run(*command: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTHON"))}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the example's wheel; Lepton itself comes from this one."""
    folder = tmp_path_factory.mktemp("stranger")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # Without an index: the build backend is the one that is installed here.
    run(*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, EXAMPLE, cwd=folder)
    (wheel,) = folder.glob("acme_office_hours-*.whl")
    home = folder / "venv"
    venv.create(home, with_pip=False)
    interpreter = home / "bin" / "python"
    run(*pip, "--python", interpreter, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "lepton.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return interpreter


def lepton(python: Path, *arguments: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(python, "-m", "lepton_plugins.cli.main", *arguments, cwd=cwd, check=check)


def test_it_is_listed_with_its_distribution_and_version(python: Path, tmp_path: Path) -> None:
    listed = json.loads(lepton(python, "plugins", "-o", "json", cwd=tmp_path).stdout)
    entry = next(entry for entry in listed if entry["name"] == "acme_office_hours")
    assert (entry["distribution"], entry["version"], entry["error"]) == ("acme-office-hours", "1.0.0", None)
    assert [(offer["family"], offer["name"]) for offer in entry["offers"]] == [("policy", "office_hours")]


def test_the_schema_of_the_plan_file_knows_its_parameters(python: Path, tmp_path: Path) -> None:
    schema = json.loads(lepton(python, "schema", "plan", cwd=tmp_path).stdout)
    assert "office_hours" in schema["$defs"]["PolicySpec"]["properties"]["kind"]["examples"]
    assert "closes" in json.dumps(schema)


def test_its_own_tests_pass_where_it_is_installed(python: Path, tmp_path: Path) -> None:
    done = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLE / "tests", cwd=tmp_path)
    assert "passed" in done.stdout


_USE = """
import numpy as np, pandas as pd, sys
from pathlib import Path
from lepton_plugins import ModelRegistry, Router
from lepton_plugins.evaluation.options import EvaluationOptions
from lepton_plugins.testing import write_deployment

folder, uri = Path(sys.argv[1]), sys.argv[2]
lines = write_deployment(folder / "lines")
registry = ModelRegistry(uri)
for arm in lines.arms:
    model = folder / "lines" / "models" / arm.artifact_digest.removeprefix("sha256:") / "model.onnx"
    registry.register_model("line", model, model_framework="onnx", model_version=f"v{arm.version}")
hours = np.arange(240) % 24
x = np.linspace(-1, 1, 240).astype("float32")
day = (hours >= 8) & (hours < 18)
data = pd.DataFrame({"x": x, "hour": hours, "y": np.where(day, 3 * x - 1, 2 * x + 1)})
registry.evaluate("line", data, target="y", task="regression", context=["hour"], options=EvaluationOptions(cost=False))
planned = registry.plan({"model": "line", "policy": {"kind": "office_hours", "params": {"day": 2, "night": 1}}})
shares = {arm.version: round(arm.share, 3) for arm in planned.plan.arms}
registry.promote("line", why="day and night")
router = Router.load(registry.pull("line", folder / "deployment"))
answers = router.predict(data[["x", "hour"]])
explained = router.explain({"x": 0.5, "hour": 12})
print(shares, float(np.abs(answers.values - data["y"]).max()) < 1e-5, explained.chosen, "|", explained.reason)
"""


def test_a_plan_and_the_router_use_it(python: Path, tmp_path: Path, sqlite_uri: str) -> None:
    done = run(python, "-c", _USE, tmp_path, sqlite_uri, cwd=tmp_path)
    assert done.stdout.strip().splitlines()[-1] == ("{'1': 0.583, '2': 0.417} True 2 | hour 12 is within 8 to 18"), (
        done.stderr
    )


def test_without_the_version_it_names_the_plan_says_so(python: Path, tmp_path: Path, sqlite_uri: str) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("model: line\npolicy: {kind: office_hours, params: {dya: 2, night: 1}}\n")
    done = lepton(python, "plan", "line", "-f", plan, "--registry", sqlite_uri, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "dya" in done.stderr
    assert "'day'" in done.stderr
