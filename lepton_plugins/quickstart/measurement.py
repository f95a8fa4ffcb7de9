"""The plan in force against each single version, over HTTP, on traffic that no step before has seen."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import numpy as np

from lepton_plugins.quickstart.comparison import compare
from lepton_plugins.quickstart.deployment import MODEL, deploy_alone
from lepton_plugins.quickstart.flights import TARGET
from lepton_plugins.quickstart.result import PeriodResult
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
        deploy_alone(registry, workspace.alone)
        step.say(f"the plan and its models in {workspace.deployment}")
    names = {
        version.version: (version.label or version.version, version.metadata.get("description", ""))
        for version in registry.list_versions(MODEL)
    }
    with ExitStack() as stack:
        with steps.step("Serve") as step:
            address = stack.enter_context(serving(workspace.deployment, workspace.server_log, workspace.decisions))
            beside = stack.enter_context(serving(workspace.alone, workspace.alone_log, workspace.alone_decisions))
            step.say(f"the plan at {address}, the single versions at {beside}")
        routed = stack.enter_context(closing(Client(address, MODEL)))
        alone = stack.enter_context(closing(Client(beside, MODEL)))
        return tuple(_period(routed, alone, period, flights, names, steps) for period, flights in traffic.items())


def _period(
    routed: Client,
    alone: Client,
    period: str,
    flights: pd.DataFrame,
    names: Mapping[str, tuple[str, str]],
    steps: Steps,
) -> PeriodResult:
    target = flights[TARGET].to_numpy()
    with steps.step(f"Traffic of {period}") as step:
        step.now("routed")
        answers = routed.ask_all(flights)
        singles = {}
        for version, (label, _) in names.items():
            step.now(f"{label} alone")
            singles[version] = alone.ask_all(flights, version)
        step.now("the flights' outcomes as feedback")
        stored = routed.feedback_all(answers.decisions, target.tolist())
        step.now("one flight at a time")
        p50_ms = _latency({None: routed} | dict.fromkeys(names, alone), flights)
        step.say(f"{len(flights):,} flights routed, and sent to each version alone; feedback stored for {stored:,}")
    return compare(period, target, flights["carrier"].to_numpy(), answers, singles, names, p50_ms)


def _latency(ways: Mapping[str | None, Client], flights: pd.DataFrame) -> dict[str | None, float]:
    """Median time of a request for one flight, in milliseconds, by version asked for (None: routed).

    The ways take turns, so that they share the machine's moods.
    """
    rows = np.linspace(0, len(flights) - 1, _SINGLES).astype(int)
    times: dict[str | None, list[float]] = {version: [] for version in ways}
    for body in [body_of(flights.iloc[row : row + 1]) for row in rows]:
        for version, client in ways.items():
            times[version].append(client.milliseconds(body, version))
    return {version: float(np.median(measured[_WARM_UP:])) for version, measured in times.items()}
