"""Whether the packages that versions were logged with install together: asked of a real resolver, uv's.

One process can hold several versions (topology `embedded`) only if they can. Lines that contradict each other are
found without it; what packages want of each other in turn only a resolver knows.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import combinations

from lepton_plugins.embedding import without_backends_own
from lepton_plugins.errors import RequirementsConflict
from lepton_plugins.planning.candidates import Candidate
from lepton_plugins.plugins import plugins
from lepton_plugins.records.plugin import BackendOffer
from lepton_plugins.registry import Registry
from lepton_plugins.requirements import merge, readable

#: Different sets of requirements that are asked about pair by pair; beyond, only lines are compared.
_MOST = 12
_SECONDS = 60.0


def apart(wanted: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], str]:
    """Pairs of sides that can't be installed together, with the reason; `wanted` are their lines.

    Sides with the same lines are alike. Without uv, or where it can't reach an index, lines are all that is compared.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for side, lines in wanted.items():
        alike.setdefault(tuple(sorted(readable(side, lines))), []).append(side)
    sets = list(alike)
    if len(sets) < 2:
        return {}
    found: dict[tuple[str, str], str] = {}
    resolve = len(sets) <= _MOST and find_spec("uv") is not None
    if resolve and _written(sets) is None:
        resolve = _refused([line for lines in sets for line in lines]) is not None
    for one, other in combinations(sets, 2):
        reason = _written([one, other])
        if reason is None and resolve:
            reason = _refused([*one, *other])
        if reason is not None:
            found |= {(first, second): reason for first in alike[one] for second in alike[other]}
    return found


def clashes(registry: Registry, candidates: Sequence[Candidate]) -> dict[tuple[str, str], str]:
    """Pairs of versions that one process can't hold, with the reason.

    Asked of versions whose backend runs them in what they were logged with; one that doesn't say what that is, is
    left to whoever installs it.
    """
    wanted: dict[str, Sequence[str]] = {}
    for item in candidates:
        offer = plugins().offer("backend", item.report.backend or "")
        if isinstance(offer, BackendOffer) and offer.own_environment:
            lines = registry.requirements(item.version)
            if lines is not None:
                wanted[item.name] = without_backends_own(lines, offer)
    return apart(wanted) if len(wanted) > 1 else {}


def _written(sets: Sequence[Sequence[str]]) -> str | None:
    """What lines contradict each other; None if none do."""
    try:
        merge({f"set {number}": lines for number, lines in enumerate(sets)})
    except RequirementsConflict as error:
        return str(error)
    return None


def _refused(lines: Sequence[str]) -> str | None:
    """Why the resolver finds no set of packages; None if it finds one, or can't tell."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "-"]
    try:
        done = subprocess.run(
            command, input="\n".join(lines), capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0 or "No solution found" not in done.stderr:
        return None
    said = done.stderr.partition("cause:")[2] or done.stderr
    return " ".join(said.split())[:500]
