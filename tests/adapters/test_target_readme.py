"""The target in adapters/README.md is a real one: a stranger's plugin, run by the contract kit, and what it renders."""

from __future__ import annotations

import configparser
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lepton_plugins import generate
from lepton_plugins.plugins import Plugins
from lepton_plugins.testing import TargetContract, write_deployment

README = Path(__file__).parents[2] / "adapters" / "README.md"


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    """The README's two modules as a package with a dist-info, found as any installed plugin is."""
    site = tmp_path / "site"
    (site / "acme_lepton").mkdir(parents=True)
    (site / "acme_lepton" / "__init__.py").touch()
    for name, code in re.findall(r"```python\n# acme_lepton/(\w+\.py).*?\n(.*?)```", README.read_text(), re.S):
        (site / "acme_lepton" / name).write_text(code)
    info = site / "acme_lepton-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: acme-lepton\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lepton_plugins]\nacme = acme_lepton.plugin\n")
    monkeypatch.syspath_prepend(str(site))
    found = Plugins()
    found.load_entry_points()
    monkeypatch.setattr(generate, "plugins", lambda: found)
    yield found
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_lepton"]:
        del sys.modules[name]


def test_the_documented_target_keeps_the_contract(acme: Plugins) -> None:
    assert acme.statuses["acme"].provider == "acme-lepton 1.0"

    class Contract(TargetContract):
        target = acme.load("target", "systemd")

    Contract.check()


def test_the_unit_that_it_renders_serves(acme: Plugins, bare_environment: Any, free_port: Any, tmp_path: Path) -> None:
    """As systemd would start it, but for the user."""
    write_deployment(tmp_path / "deployment")
    port = str(free_port())
    generate.generate(tmp_path / "deployment", "systemd", tmp_path / "to", {"port": port, "home": str(tmp_path / "to")})
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(tmp_path / "to" / "line.service")
    service = unit["Service"]
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    url = f"http://127.0.0.1:{port}"
    command = shlex.split(service["ExecStart"])
    with bare_environment.serving(command, f"{url}/v2/health/ready", Path(service["WorkingDirectory"]), env):
        answer = httpx.post(f"{url}/invocations", json={"dataframe_records": [{"x": 1.0, "unit": "a"}]}, timeout=30)
        assert answer.json()["predictions"][0] in (3.0, 2.0)


def test_the_table_names_every_adapter() -> None:
    listed = re.findall(r"^\| `(lepton_\w+)`", README.read_text(), re.M)
    assert sorted(listed) == sorted(path.parent.name for path in README.parent.glob("*/__init__.py"))
