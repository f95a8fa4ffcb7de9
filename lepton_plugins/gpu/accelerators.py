"""Accelerators by name: memory, Kubernetes' resource key, MIG profiles. Data: `accelerators.yaml`, and plugins'."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lepton_plugins.errors import InvalidInput, PluginClash, nearest
from lepton_plugins.plugins import DISTRIBUTION, plugins
from lepton_plugins.records.accelerator import Accelerator, MigProfile

_GIB = 2**30
_TABLE = Path(__file__).with_name("accelerators.yaml")


def accelerators() -> dict[str, Accelerator]:
    """Lepton's own table and what plugins offer, by name; PluginClash where one offers a name of the table."""
    own = _table()
    offered = plugins().offers("accelerator")
    for name in offered:
        if name in own:
            raise PluginClash("accelerator", name, [DISTRIBUTION, plugins().provider("accelerator", name).provider])
    return own | {name: offer.load() for name, offer in offered.items()}


@cache
def _table() -> dict[str, Accelerator]:
    return read_table(_TABLE.read_text(encoding="utf-8"))


def accelerator(name: str) -> Accelerator:
    """One of the table. InvalidInput with the nearest name where it isn't there."""
    known = accelerators()
    if name not in known:
        raise InvalidInput(f"Found the accelerator {name!r}, expected one of {', '.join(known)}.{nearest(name, known)}")
    return known[name]


def read_table(text: str) -> dict[str, Accelerator]:
    """A table of the form of `accelerators.yaml`: memory in GiB as sold, MIG profiles by name."""
    data: dict[str, dict[str, Any]] = yaml.safe_load(text)
    found = {}
    for name, entry in data.items():
        vendor = entry["key"].partition("/")[0]
        profiles = [
            MigProfile(name=profile, memory=int(memory * _GIB), key=f"{vendor}/mig-{profile}")
            for profile, memory in entry.get("mig", {}).items()
        ]
        found[name] = Accelerator(name=name, memory=int(entry["memory"] * _GIB), key=entry["key"], mig=tuple(profiles))
    return found
