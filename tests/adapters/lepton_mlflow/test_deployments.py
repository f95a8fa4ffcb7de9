"""A stranger's deployer, found by MLflow's own client and command line: the module is that of adapters/README.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.deployments import get_deploy_client
from mlflow.deployments.cli import commands
from mlflow.deployments.interface import plugin_store
from mlflow.exceptions import MlflowException

from lepton_plugins import plugins as finding
from lepton_plugins.deployer import open_deployer
from lepton_plugins.errors import CannotDeploy
from lepton_plugins.plugins import Plugins
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import ContractBroken, DeployerContract, write_deployment

README = Path(__file__).parents[3] / "adapters" / "README.md"

DEPLOYER = '''
"""Deployments are copies in a folder below SHELF, which the place names; a router in this process answers."""
import os, shutil
from pathlib import Path

from lepton_plugins.errors import DeploymentExists, DeploymentNotFound, InvalidInput
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.routing.router import Router


class SystemdDeployer:
    help = "lepton-systemd: units on this machine.\\n"

    def __init__(self, place):
        self.folder = Path(os.environ["SHELF"]) / place

    def create(self, name, deployment, options):
        if (self.folder / name).exists():
            raise DeploymentExists(name, str(self.folder))
        return self._put(name, deployment, options)

    def update(self, name, deployment, options):
        self._there(name)
        return self._put(name, deployment, options)

    def get(self, name):
        return {"name": name, "plan": DeploymentDirectory.open(self._there(name)).plan.digest}

    def list(self):
        return [self.get(path.name) for path in sorted(self.folder.glob("*"))]

    def delete(self, name, options):
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def predict(self, name, instances):
        with Router.load(self._there(name)) as router:
            return router.predict({key: [row[key] for row in instances] for key in instances[0]}).values.tolist()

    def run_local(self, name, deployment, options):
        print(f"{name}: {DeploymentDirectory.open(deployment()).plan.model} with {dict(options)}")

    def _there(self, name):
        if not (self.folder / name).exists():
            raise DeploymentNotFound(name, str(self.folder))
        return self.folder / name

    def _put(self, name, deployment, options):
        if options:
            raise InvalidInput(f"-C {', '.join(options)}: expected none")
        self.delete(name, options)
        shutil.copytree(deployment(), self.folder / name)
        return self.get(name)
'''
PLUGIN = """
from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import TargetOffer

@hookimpl
def lepton_targets():
    return [
        TargetOffer(
            name="systemd",
            summary="A systemd unit",
            target="acme_lepton.systemd:SystemdTarget",
            deployer="acme_lepton.deployer:SystemdDeployer",
        )
    ]
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stranger's package with a dist-info of two entry points; the folder that its deployments go to."""
    site, shelf = tmp_path / "site", tmp_path / "shelf"
    (site / "acme_lepton").mkdir(parents=True)
    (shelf / "east").mkdir(parents=True)
    (thin,) = re.findall(r"```python\n# acme_lepton/mlflow_systemd\.py.*?\n(.*?)```", README.read_text(), re.S)
    files = {"__init__": "", "deployer": DEPLOYER, "plugin": PLUGIN, "mlflow_systemd": thin}
    for name, code in files.items():
        (site / "acme_lepton" / f"{name}.py").write_text(code)
    info = site / "acme_lepton-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: acme-lepton\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[lepton_plugins]\nacme = acme_lepton.plugin\n"
        "[mlflow.deployments]\nlepton-systemd = acme_lepton.mlflow_systemd\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("SHELF", str(shelf))
    found = Plugins()
    found.load_entry_points()
    monkeypatch.setattr(finding, "plugins", lambda: found)
    before = dict(plugin_store.registry)
    plugin_store.register_entrypoints()
    yield shelf
    plugin_store.registry.clear()
    plugin_store.registry.update(before)
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_lepton"]:
        del sys.modules[name]


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    write_deployment(tmp_path / "deployment")
    return tmp_path / "deployment"


def cli(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran.exit_code, ran.output


def test_mlflow_reaches_a_strangers_deployer(acme: Path, deployment: Path) -> None:
    target = ("-t", "lepton-systemd:/east")
    code, told = cli("create", *target, "-m", deployment, "--name", "line")
    assert (code, told.strip()) == (0, "lepton deployment line is created")
    assert (acme / "east" / "line" / "plan.json").is_file()
    client = get_deploy_client("lepton-systemd:/east")
    found = client.get_deployment("line")
    assert (found["name"], found["flavor"]) == ("line", "lepton")
    assert client.list_deployments() == [found]
    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0], "unit": list("abc")})
    with Router.load(deployment) as router:
        np.testing.assert_allclose(client.predict("line", rows)["predictions"], router.predict(rows).values)
    with pytest.raises(MlflowException, match="There is a deployment 'line'"):
        client.create_deployment("line", str(deployment))
    with pytest.raises(MlflowException, match="update needs -m"):
        client.update_deployment("line")
    assert client.update_deployment("line", str(deployment)) == found
    with pytest.raises(MlflowException, match="goes with -m models:/NAME/plan"):
        client.update_deployment("line", str(deployment), config={"revision": 2})
    assert cli("delete", *target, "--name", "line") == (0, "Deployment line is deleted\n")
    assert cli("get", *target, "--name", "line")[1].startswith("Error: There is no deployment 'line' in")
    told = cli("help", *target)[1]
    assert "units on this machine" in told
    assert "models:/NAME/plan" in told
    local = cli("run-local", "-t", "lepton-systemd", "-m", deployment, "--name", "line", "-C", "port=1")
    assert "line: line with {'port': '1'}" in local[1]


def test_the_strangers_deployer_keeps_the_contract(acme: Path) -> None:
    made = type(open_deployer("systemd", "east"))
    contract: Any = type("Contract", (DeployerContract,), {"deployer": made, "place": "east"})
    contract.check()
    assert list((acme / "east").iterdir()) == []


def test_a_careless_deployer_is_caught(acme: Path) -> None:
    made: Any = type(open_deployer("systemd", "east"))

    class Careless(made):  # type: ignore[misc]
        def create(self, name: str, deployment: Any, options: Any) -> Any:
            """Takes any option, and takes the place of what is there."""
            return self._put(name, deployment, {})

    contract: Any = type("Contract", (DeployerContract,), {"deployer": Careless, "place": "east"})
    with pytest.raises(ContractBroken) as caught:
        contract.check()
    told = str(caught.value).splitlines()
    assert len(told) == 2
    assert "create under a name that is there gave" in told[0]
    assert "create with -C no_such_option=1 gave" in told[1]
    assert list((acme / "east").iterdir()) == [], "what was made is taken away again"


def test_a_target_that_only_renders_says_so(acme: Path) -> None:
    with pytest.raises(CannotDeploy, match=r"'mlflow' renders and doesn't deploy.*bentoml, kserve, systemd"):
        open_deployer("mlflow")
