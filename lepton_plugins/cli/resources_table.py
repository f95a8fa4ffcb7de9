"""How much of each resource a plan uses, what more of it would be worth, and plans side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lepton_plugins.display import new_table
from lepton_plugins.planning.planned import gain_text
from lepton_plugins.planning.quantity import amount

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lepton_plugins.planning.gpu_advice import VersionAdvice
    from lepton_plugins.planning.what_if import Margin, Scenario


def margins_table(margins: Sequence[Margin]) -> RenderableType:
    """A row for each budgeted resource; worth as a rise of the objective."""
    table = new_table("Resources")
    for title, figures in (("resource", False), ("used", True), ("budget", True), ("", True), ("one more", True)):
        table.add_column(title, justify="right" if figures else "left", no_wrap=True)
    table.add_column("is worth", overflow="fold")
    for item in margins:
        table.add_row(
            item.resource,
            _amount(item.resource, item.used),
            _amount(item.resource, item.budget),
            f"{100 * item.utilisation:.0f} %",
            _amount(item.resource, item.unit),
            _worth(item),
        )
    return table


def scenarios_table(scenarios: Sequence[Scenario]) -> RenderableType:
    """A row for each plan: shares, objective, expected gain, use."""
    table = new_table("What if")
    for title in ("if", "shares", "objective", "expected gain", "uses"):
        table.add_column(title, overflow="fold")
    for item in scenarios:
        if item.problem is not None:
            table.add_row(item.name, item.problem, "", "", "")
            continue
        table.add_row(
            item.name,
            _shares(item),
            "–" if item.objective is None else f"{item.objective:.5g}",
            "–" if item.gain is None else gain_text(item.gain),
            _uses(item),
        )
    return table


def advice_table(advised: Sequence[VersionAdvice]) -> RenderableType:
    """A row for each version: its GPU memory, how that is known, and the share of a device that it wants."""
    table = new_table("GPU")
    for title, figures in (("version", True), ("memory", True), ("known", False)):
        table.add_column(title, justify="right" if figures else "left", no_wrap=True)
    table.add_column("advice", overflow="fold")
    for item in advised:
        if item.advice is None or item.memory is None or item.how is None:
            table.add_row(item.version, "–", "–", "its report has no GPU memory, neither measured nor estimated")
        else:
            table.add_row(item.version, amount("gpu_memory", item.memory), item.how, item.advice.text)
    return table


def _uses(item: Scenario) -> str:
    parts = [f"{name} {amount(name, value)}" for name, value in item.used.items() if value]
    return ", ".join([*parts, *([f"price {item.cost:g}"] if item.cost else [])])


def _amount(resource: str, value: float) -> str:
    if resource.startswith("pools."):
        return f"{value:g} node" + ("" if value == 1 else "s")
    return amount(resource, value)


def _worth(item: Margin) -> str:
    if item.then.problem is not None:
        return item.then.problem
    if item.worth is None:
        return "nothing: the policy's shares don't depend on it"
    if item.worth <= 1e-9:
        return "nothing"
    return f"+{item.worth:.3g} of the objective, with {_shares(item.then)}"


def _shares(item: Scenario) -> str:
    return ", ".join(
        f"version {version} {100 * share:.3g} %{_replicas(item.replicas.get(version, {}))}"
        for version, share in item.shares.items()
    )


def _replicas(pools: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} × {pool}' for pool, count in pools.items())})" if pools else ""
