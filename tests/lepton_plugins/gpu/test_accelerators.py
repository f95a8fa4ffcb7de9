"""Accelerators that a stranger's plugin offers stand beside Lepton's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lepton_plugins import hookimpl
from lepton_plugins.errors import PluginClash
from lepton_plugins.gpu import accelerators as table
from lepton_plugins.gpu.memory import Margins, advice
from lepton_plugins.plugins import Plugins
from lepton_plugins.records.plugin import AcceleratorOffer

PLUGIN = """
from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import AcceleratorOffer

@hookimpl
def lepton_accelerators():
    return [AcceleratorOffer(name="acme-n1", summary="a card", memory="32Gi", key="acme.com/n1", mig={"1g.8gb": "8Gi"})]
"""
SHOWN = """
from lepton_plugins.gpu.accelerators import accelerator
from lepton_plugins.gpu.memory import Margins, advice
print(advice(Margins().around(weights=2**30, activations=0), accelerator("acme-n1")).model_dump_json())
"""


@pytest.fixture
def stranger(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine on which a distribution with one accelerator is installed."""
    (tmp_path / "acme_cards.py").write_text(PLUGIN)
    info = tmp_path / "acme_cards-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-cards\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[lepton_plugins]\ncards = acme_cards\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def run(*arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_strangers_accelerator_is_advised_and_listed(stranger):
    found = json.loads(run("-c", SHOWN, env=stranger))
    assert (found["kind"], found["key"]) == ("mig", "acme.com/mig-1g.8gb")
    listed = json.loads(run("-m", "lepton_plugins.cli.main", "plugins", "-o", "json", env=stranger))
    entry = next(item for item in listed if item["distribution"] == "acme-cards")
    assert [(offer["family"], offer["name"]) for offer in entry["offers"]] == [("accelerator", "acme-n1")]


class Cards:
    def __init__(self, name: str) -> None:
        self.name = name

    @hookimpl
    def lepton_accelerators(self) -> list[AcceleratorOffer]:
        return [AcceleratorOffer(name=self.name, summary="a card", memory=2**34, key="acme.com/n1")]


def test_a_name_that_lepton_knows_is_a_clash_that_names_both(monkeypatch):
    found = Plugins()
    found.register(Cards("nvidia-t4"), "cards", "acme-cards")
    monkeypatch.setattr(table, "plugins", lambda: found)
    with pytest.raises(PluginClash, match=r"'nvidia-t4' is offered by lepton-plugins and by acme-cards"):
        table.accelerator("nvidia-t4")


def test_devices_without_parts_are_shared_or_whole(monkeypatch):
    found = Plugins()
    found.register(Cards("acme-n2"), "cards", "acme-cards")
    monkeypatch.setattr(table, "plugins", lambda: found)
    small = Margins(context=0).around(weights=2**32, activations=0)
    assert advice(small, table.accelerator("acme-n2")).kind == "shared"
    assert table.accelerator("nvidia-t4").key == "nvidia.com/gpu"
