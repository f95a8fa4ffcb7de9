"""The README: its tables say what is there, its tour runs as it stands."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from lepton_plugins import hookspecs
from lepton_plugins.plugins import plugins
from tests.processes import serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LEPTON = Path(sys.executable).with_name("lepton")


def block(marker: str) -> str:
    """The fenced block that follows an HTML comment."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\s*```\w*\n(.*?)```", README, re.S)
    assert found, f"README.md has no block after <!-- {marker} -->"
    return found[1]


def table(heading: str) -> list[str]:
    """The code-quoted names in the first column of the table below a heading."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)`", section, re.M)


def test_every_hook_is_in_the_table() -> None:
    hooks = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("lepton_")]
    assert sorted(table("Hooks")) == sorted(hooks)


def test_every_policy_is_in_the_table() -> None:
    own = plugins().statuses["selection"].offers["policy"]
    assert sorted(table("Policies")) == sorted(offer.name for offer in own)


def test_every_target_is_in_the_table_with_options_it_has() -> None:
    assert sorted(table("Targets")) == sorted(plugins().offers("target"))
    section = README.split("## Targets\n", 1)[1].split("\n## ", 1)[0]
    for name in table("Targets"):
        row = next(line for line in section.splitlines() if line.startswith(f"| `{name}`"))
        options = re.findall(r"`(\w+)`", row.rsplit("|", 2)[1])
        assert set(options) <= set(plugins().load("target", name).Options.model_fields), name


def test_every_command_is_in_the_table() -> None:
    from typer.main import get_command

    from lepton_plugins.cli.main import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert sorted(table("Commands")) == sorted(commands)


@pytest.fixture
def churn(sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the tour's reader has it: a registry with three versions of `churn`, a table, a customer."""
    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(0)
    rows = 6000
    frame = pd.DataFrame(
        {
            "tenure": random.uniform(0, 60, rows).round(1),
            "plan": random.choice(["basic", "plus", "family"], rows),
            "customer_id": random.integers(0, 3000, rows),
        }
    )
    slope = frame.plan.map({"basic": -0.08, "plus": 0.02, "family": 0.08})
    frame["churned"] = (random.random(rows) < 1 / (1 + np.exp(-slope * (frame.tenure - 30)))).astype(int)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri)
    monkeypatch.chdir(tmp_path)
    features = frame[["tenure", "plan"]]
    mlflow.set_tracking_uri(sqlite_uri)
    mlflow.set_experiment("training")  # Whatever another test made MLflow's active one isn't in this registry.
    for plans in (["basic", "plus"], ["family", "plus"], ["basic", "family"]):
        part = frame[:3000][frame[:3000].plan.isin(plans)]
        encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["plan"]), remainder="passthrough")
        model = make_pipeline(encode, LogisticRegression(max_iter=500)).fit(part[["tenure", "plan"]], part.churned)
        mlflow.sklearn.log_model(
            model,
            name="churn",
            registered_model_name="churn",
            pip_requirements=["scikit-learn"],
            signature=infer_signature(features, model.predict(features)),
        )
    frame[3000:].to_parquet("holdout.parquet")
    Path("customer.json").write_text(json.dumps({"tenure": 12, "plan": "basic", "customer_id": 7}))
    Path("plan.yaml").write_text(block("plan.yaml"))
    return tmp_path


def run(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """One line of the tour in the current folder, in this process: MLflow is imported once for all."""
    from lepton_plugins.cli.main import main

    words = shlex.split(line)
    assert words[0] == "lepton", line
    code = main(words[1:])
    out, err = capsys.readouterr()
    assert code == 0, f"{line}\n{out}\n{err}"
    return out


def test_the_tour_runs_as_it_stands(churn: Path, free_port: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.removeprefix("$ ") for line in block("tour").splitlines()]
    assert len(lines) == 10
    shown = {line: run(line, capsys) for line in lines if not line.startswith("lepton serve")}
    compared = next(text for line, text in shown.items() if line.startswith("lepton compare"))
    assert "basic" in compared
    assert "family" in compared
    import pandas as pd

    answers = pd.read_parquet(churn / "answers.parquet")
    assert len(answers) == 3000

    posts = re.findall(r"curl -s localhost:8080(\S+) -H '([^']*)'[^']*-d '(.*?)'", README, re.S)
    assert [path for path, _, _ in posts] == ["/v2/models/churn/infer", "/invocations"]
    port = str(free_port())
    assert lines[-1].endswith("--port 8080")
    command = [LEPTON, *shlex.split(lines[-1].replace("8080", port))[1:]]
    server = f"http://localhost:{port}"
    with serving(command, f"{server}/v2/health/ready", churn):
        for path, header, body in posts:
            answer = httpx.post(f"{server}{path}", content=body, headers=dict([header.split(": ")]))
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-lepton-version"] in {"1", "2", "3"}
            assert "x-lepton-decision" in answer.headers
