"""The target in adapters/README.md is a real one: installed as a stranger's plugin, run by the contract kit."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lepton_plugins import generate
from lepton_plugins.plugins import Plugins
from lepton_plugins.testing import TargetContract, write_deployment

README = Path(__file__).parents[2] / "adapters" / "README.md"


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    """The README's two modules as a package, offered beside Lepton's own."""
    package = tmp_path / "acme_lepton"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, code in re.findall(r"```python\n# acme_lepton/(\w+\.py).*?\n(.*?)```", README.read_text(), re.S):
        (package / name).write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    from acme_lepton import plugin

    found = Plugins()
    found.load_entry_points()
    found.register(plugin, "acme", "acme-lepton")
    monkeypatch.setattr(generate, "plugins", lambda: found)
    yield found
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_lepton"]:
        del sys.modules[name]


def test_the_documented_target_renders_and_keeps_the_contract(acme: Plugins, tmp_path: Path) -> None:
    write_deployment(tmp_path / "deployment")
    generate.generate(tmp_path / "deployment", "systemd", tmp_path / "to", {"port": "9000"})
    assert "--port 9000" in (tmp_path / "to" / "line.service").read_text()

    class Contract(TargetContract):
        target = acme.load("target", "systemd")

    Contract.check()


def test_the_table_names_every_adapter() -> None:
    listed = re.findall(r"^\| `(lepton_\w+)`", README.read_text(), re.M)
    assert sorted(listed) == sorted(path.parent.name for path in README.parent.glob("*/__init__.py"))
