"""The plan in force against each single version, over HTTP, on traffic that no step before has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import numpy as np

from lepton_plugins.quickstart.comparison import PeriodResult, compare
from lepton_plugins.quickstart.deployment import MODEL
from lepton_plugins.quickstart.flights import TARGET
from lepton_plugins.quickstart.server import serving
from lepton_plugins.quickstart.steps import Steps
from lepton_plugins.quickstart.traffic import Client, body_of
from lepton_plugins.quickstart.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from lepton_plugins.api import ModelRegistry

#: Requests for one flight, for each way to answer; the first ones only warm up.
_SINGLES, _WARM_UP = 300, 20


def measure(
    registry: ModelRegistry, workspace: Workspace, traffic: Mapping[str, pd.DataFrame], steps: Steps
) -> tuple[PeriodResult, ...]:
    """Pull the plan, serve it in a process of its own, send each period's flights, compare the answers."""
    with steps.step("Pull") as step:
        registry.pull(MODEL, workspace.deployment)
        step.say(f"plan and models in {workspace.deployment}")
    versions = {version.version: version for version in registry.list_versions(MODEL)}
    names = {
        number: (found.label or number, found.metadata.get("description", "")) for number, found in versions.items()
    }
    with ExitStack() as stack:
        with steps.step("Serve") as step:
            decisions = workspace.root / "decisions"
            address = stack.enter_context(serving(workspace.deployment, decisions, workspace.server_log))
            step.say(f"a `lepton serve` process at {address}")
        client = stack.enter_context(closing(Client(address, MODEL)))
        return tuple(_period(client, period, flights, names, steps) for period, flights in traffic.items())


def _period(
    client: Client, period: str, flights: pd.DataFrame, names: Mapping[str, tuple[str, str]], steps: Steps
) -> PeriodResult:
    target = flights[TARGET].to_numpy()
    with steps.step(f"Traffic of {period}") as step:
        step.now("routed")
        routed = client.ask_all(flights)
        singles = {}
        for version, (label, _) in names.items():
            step.now(f"{label} alone")
            singles[version] = client.ask_all(flights, version)
        step.now("the flights' outcomes as feedback")
        stored = client.feedback_all(routed.decisions, target.tolist())
        step.now("one flight at a time")
        p50_ms = _latency(client, flights, [None, *names])
        step.say(f"{len(flights):,} flights routed, and sent to each version alone; feedback stored for {stored:,}")
    return compare(period, target, flights["carrier"].to_numpy(), routed, singles, names, p50_ms)


def _latency(client: Client, flights: pd.DataFrame, ways: Sequence[str | None]) -> dict[str | None, float]:
    """Median time of a request for one flight, in milliseconds. The ways take turns, so that they share the
    machine's moods."""
    rows = np.linspace(0, len(flights) - 1, _SINGLES).astype(int)
    times: dict[str | None, list[float]] = {way: [] for way in ways}
    for body in [body_of(flights.iloc[row : row + 1]) for row in rows]:
        for way in ways:
            times[way].append(client.milliseconds(body, way))
    return {way: float(np.median(measured[_WARM_UP:])) for way, measured in times.items()}
