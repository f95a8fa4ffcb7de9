"""`mlflow deployments -t lepton-bentoml`: real bentos in real processes, found again by every later command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner
from mlflow.deployments import get_deploy_client
from mlflow.deployments.cli import commands
from mlflow.exceptions import MlflowException

from lepton_bentoml.deployer import BentomlDeployer
from lepton_bentoml.running import RunningBentos
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import DeployerContract, write_deployment

ROWS = pd.DataFrame({"x": np.linspace(-2, 2, 20), "unit": [f"customer-{i}" for i in range(20)]})
CLI = "from mlflow.deployments.cli import commands; commands()"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client on a BentoML of this test's own, offline; what is left running is ended."""
    pytest.importorskip("bentoml")
    for name, value in {
        "BENTOML_HOME": str(tmp_path / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PIP_NO_INDEX": "1",
        "UV_OFFLINE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    yield get_deploy_client("lepton-bentoml")
    running = RunningBentos()
    for item in running.list():
        running.delete(item.name)


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    write_deployment(tmp_path / "deployment")
    return tmp_path / "deployment"


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which ends before what it started."""
    command = [sys.executable, "-c", CLI, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def here(*arguments: object) -> tuple[int, str]:
    """The command line in this process."""
    ran = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    return ran.exit_code, ran.output


def test_a_life_on_this_machine(client: Any, deployment: Path, tmp_path: Path, free_port: Any) -> None:
    port = free_port()
    target = ("-t", "lepton-bentoml")
    made = cli("create", *target, "-m", deployment, "--name", "line", "-C", f"port={port}")
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == "lepton deployment line is created"
    (found,) = client.list_deployments()
    assert found == client.get_deployment("line")
    assert (found["runs"], found["url"]) == (True, f"http://127.0.0.1:{port}")
    assert found["bento"].startswith("line:")
    with Router.load(deployment) as router:
        expected = router.predict(ROWS).values
    np.testing.assert_allclose(client.predict("line", ROWS)["predictions"], expected, atol=1e-6)
    ROWS.to_json(tmp_path / "rows.json", orient="records")
    assert '"predictions"' in here("predict", *target, "--name", "line", "-I", tmp_path / "rows.json")[1]
    with pytest.raises(MlflowException, match=r"400: .*expected"):
        client.predict("line", pd.DataFrame({"x": ["far"]}))
    with pytest.raises(MlflowException, match="There is a deployment 'line'"):
        client.create_deployment("line", str(deployment))

    plan = write_deployment(tmp_path / "other")
    (tmp_path / "other" / "plan.json").write_bytes(plan.model_copy(update={"default": "2"}).content)
    updated = client.update_deployment("line", str(tmp_path / "other"))
    assert updated["url"] == found["url"], "it stays where it was"
    assert updated["plan"] != found["plan"]
    assert updated["pid"] != found["pid"]
    assert not alive(found["pid"])
    assert httpx.get(f"{found['url']}/v2/models/line").json()["versions"] == ["1", "2"]

    started = psutil.Process(updated["pid"]).children(recursive=True)
    os.kill(updated["pid"], signal.SIGKILL)
    os.waitpid(updated["pid"], 0)
    assert client.get_deployment("line")["runs"] is False
    with pytest.raises(MlflowException, match="its process has ended; its log is"):
        client.predict("line", ROWS)
    assert here("delete", *target, "--name", "line") == (0, "Deployment line is deleted\n")
    assert started, "a bento's server has workers"
    assert psutil.wait_procs(started, timeout=10)[1] == [], "what a killed server leaves is ended, too"
    client.delete_deployment("line")
    assert client.list_deployments() == []
    code, told = here("get", *target, "--name", "line")
    assert code == 1
    assert told.startswith("Error: There is no deployment 'line' in")


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("Line", {}, "--name Line: expected lower-case"),
        ("line", {"port": "high"}, "-C port=high: expected a number"),
        ("line", {"timeout": "soon"}, "-C timeout=soon: expected seconds"),
        ("line", {"name": "other"}, "expected one name"),
        ("line", {"gpus": "1", "port": "0"}, "-C port=0"),
        ("line", {"revision": "2"}, "goes with -m models:/NAME/plan"),
        ("line", {"worker": "2"}, "no option 'worker'. Did you mean 'workers'"),
    ],
)
def test_wrong_options_start_nothing(
    name: str, options: dict[str, str], told: str, client: Any, deployment: Path, free_port: Any
) -> None:
    with pytest.raises(MlflowException, match=told.replace("(", r"\(")):
        client.create_deployment(name, str(deployment), config={"port": str(free_port()), **options})
    assert client.list_deployments() == []


def test_a_taken_port_and_a_path_to_nothing(client: Any, deployment: Path, tmp_path: Path, free_port: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = str(taken.getsockname()[1])
        with pytest.raises(MlflowException, match=port):
            client.create_deployment("line", str(deployment), config={"port": port})
    with pytest.raises(MlflowException, match="found no router there"):
        client.create_deployment("line", str(tmp_path / "nothing"), config={"port": str(free_port())})


@pytest.mark.long
def test_run_local_serves_until_it_is_told_to_end(
    client: Any, deployment: Path, bare_environment: Any, tmp_path: Path, free_port: Any
) -> None:
    port = free_port()
    local = [sys.executable, "-c", CLI, "run-local", "-t", "lepton-bentoml", "-m", str(deployment), "--name", "line"]
    env = {name: os.environ[name] for name in ("BENTOML_HOME", "BENTOML_DO_NOT_TRACK", "PIP_NO_INDEX", "UV_OFFLINE")}
    url = f"http://127.0.0.1:{port}"
    with bare_environment.serving([*local, "-C", f"port={port}"], f"{url}/readyz", tmp_path, env):
        answer = httpx.post(f"{url}/v1/models/line:predict", json={"instances": [{"x": 1.0, "unit": "a"}]})
        assert answer.status_code == 200
        assert client.list_deployments() == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/readyz")


@pytest.mark.long
def test_an_update_that_fails_leaves_the_old_one_serving(
    client: Any, deployment: Path, tmp_path: Path, free_port: Any
) -> None:
    made = client.create_deployment("line", str(deployment), config={"port": str(free_port())})
    plan = write_deployment(tmp_path / "other")
    for folder in (tmp_path / "other" / "models").iterdir():
        (folder / "model.onnx").write_bytes(b"broken")
    assert plan.model == "line"
    with pytest.raises(MlflowException):
        client.update_deployment("line", str(tmp_path / "other"))
    with pytest.raises(MlflowException, match="isn't ready after"):
        client.update_deployment("line", str(deployment), config={"timeout": "0.01", "workers": "1"})
    found = client.get_deployment("line")
    assert (found["runs"], found["plan"]) == (True, made["plan"])


@pytest.mark.long
def test_the_deployer_keeps_the_contract(client: Any, free_port: Any) -> None:
    contract: Any = type("Contract", (DeployerContract,), {"deployer": BentomlDeployer})
    contract.options = {"port": str(free_port())}
    contract.check()
    assert client.list_deployments() == []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
