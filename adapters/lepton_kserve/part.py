"""What one InferenceService is of a deployment: the router with all versions, or one service of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lepton_plugins.needs import Need


@dataclass(frozen=True, slots=True)
class Part:
    """What one InferenceService is of a deployment."""

    need: Need
    headroom: float = 0.0
    apart: frozenset[str] = frozenset()
    """Digests of the versions that services of their own run."""
    router: str | None = None
    """Of a version's service: the router before it."""
    alias: str | None = None
    """Of a version's service: the name that the router calls its model by."""
    said: Mapping[str, str] = field(default_factory=dict)
    """Annotations."""
