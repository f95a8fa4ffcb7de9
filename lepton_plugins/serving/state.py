"""What outlives a plan in a server: settings, the decision log, counters, how reloading goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lepton_plugins.routing.learning_state import StateStore
from lepton_plugins.routing.store import DecisionLog
from lepton_plugins.serving.counts import Key
from lepton_plugins.serving.metrics import Metrics
from lepton_plugins.serving.settings import ServingSettings


@dataclass(slots=True)
class ReloadStatus:
    """How the looks for a newer plan went. Times are Unix seconds."""

    loaded_at: float = 0.0
    swaps: int = 0
    failures: int = 0
    failed_revision: str | None = None
    error: dict[str, str] | None = None
    """Code and sentence of the last failure; None once a newer plan serves."""
    follower: dict[str, Any] | None = None
    """What the process that follows the registry last said of itself."""

    def succeeded(self) -> None:
        """What the pointer names is what serves."""
        self.failed_revision = self.error = None

    def content(self) -> dict[str, Any]:
        return {
            "loaded_at": self.loaded_at,
            "swaps": self.swaps,
            "failures": self.failures,
            "failed_revision": self.failed_revision,
            "error": self.error,
            "follower": self.follower,
        }


@dataclass(slots=True)
class ServerState:
    """What a server's process keeps while plans come and go."""

    settings: ServingSettings
    log: DecisionLog | None = None
    learned: StateStore | None = None
    """Where what policies learn is kept; None: in this process."""
    metrics: Metrics = field(default_factory=Metrics)
    reload: ReloadStatus = field(default_factory=ReloadStatus)
    published: dict[Key, float] = field(default_factory=dict)
    """What the metrics know of the log's and the reloading's own counts."""
