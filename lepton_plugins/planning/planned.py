"""A plan that was made, with what people want to see of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from pydantic import Field

from lepton_plugins.display import plain_text
from lepton_plugins.planning.quantity import amount
from lepton_plugins.records.plan import ArmResources, DeploymentPlan, Gain
from lepton_plugins.records.record import Record

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Characters of a node's bar.
_BAR = 20
#: A screenful of segments; the plan's document has all.
_MOST_SHOWN = 40


class SegmentShares(Record):
    """Which versions answer in a segment, and why. `traffic` is its part of all rows."""

    segment: str
    traffic: float
    rows: int
    shares: dict[str, float]
    reason: str


class PlannedDeployment(Record):
    """A plan, its policy files, and the same for display. `verdict` says in a sentence what to expect of it."""

    plan: DeploymentPlan
    files: dict[str, bytes] = Field(default={}, exclude=True)
    segments: tuple[SegmentShares, ...] = ()
    verdict: str

    @property
    def deterministic(self) -> bool:
        """Whether several versions answer, each decision being certain."""
        answering = {version for item in self.segments for version, share in item.shares.items() if share > 0}
        certain = all(sum(share > 0 for share in item.shares.values()) == 1 for item in self.segments)
        return len(answering) > 1 and certain and not self.plan.around.explore

    @property
    def summary(self) -> str:
        """One line for a registry's list of revisions."""
        arms = ", ".join(f"{arm.version} {100 * arm.share:.3g} %" for arm in self.plan.arms)
        return f"{self.plan.policy.kind}: {arms}. {self.verdict}"

    def __str__(self) -> str:
        return plain_text(self.table())

    def table(self) -> RenderableType:
        """For a terminal."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = []
        for title, head, rows in self._tables():
            table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
            for name, figures in head:
                table.add_column(name, justify="right" if figures else "left", no_wrap=figures, overflow="fold")
            for row in rows:
                table.add_row(*(Text(cell) for cell in row))
            parts.append(table)
        parts += [Text(line) for line in self._lines()]
        return Group(*parts)

    def _repr_html_(self) -> str:
        parts = []
        for title, head, rows in self._tables():
            cells = "".join(f"<th>{escape(name)}</th>" for name, _ in head)
            body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
            parts.append(
                f"<table><caption>{escape(title)}</caption><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
            )
        return "".join([*parts, *(f"<p>{escape(line)}</p>" for line in self._lines())])

    def _tables(self) -> list[tuple[str, list[tuple[str, bool]], list[list[str]]]]:
        plan = self.plan
        arms = [
            [
                arm.version,
                arm.label or "",
                f"{100 * arm.share:.1f} %",
                ", ".join(self._roles(arm.version)),
                _resources(arm.resources),
            ]
            for arm in plan.arms
        ]
        tables = [
            (
                f"{plan.model}: {plan.policy.kind}",
                [("version", True), ("label", False), ("share", True), ("role", False), ("resources", False)],
                arms,
            )
        ]
        if len(self.segments) > 1:
            shown = sorted(self.segments, key=lambda item: -item.traffic)[:_MOST_SHOWN]
            tables.append(
                (
                    f"Segments by {' × '.join(plan.policy.features)}",
                    [("segment", False), ("traffic", True), ("rows", True), ("answers", False), ("why", False)],
                    [
                        [
                            item.segment,
                            f"{100 * item.traffic:.1f} %",
                            f"{item.rows:,}",
                            _shares(item.shares),
                            item.reason,
                        ]
                        for item in shown
                    ],
                )
            )
        if plan.spec.resources.pools:
            tables += [self._pools(), self._nodes()]
        if plan.rejected:
            rejected = [[item.version, item.code, item.reason] for item in plan.rejected]
            tables.append(("Not arms", [("version", True), ("code", False), ("reason", False)], rejected))
        return tables

    def _pools(self) -> tuple[str, list[tuple[str, bool]], list[list[str]]]:
        """What is used of each pool's nodes."""
        plan, rows = self.plan, []
        for name, pool in plan.spec.resources.pools.items():
            held = plan.allocation.nodes.get(name, ())
            each = [_used(plan, name, node) for node in held]
            parts = []
            for resource, has in (("cpu", pool.cpu), ("memory", pool.memory), ("gpu", pool.gpu)):
                given = sum(node[resource][0] for node in each if resource in node)
                parts.append(f"{100 * given / (has * pool.nodes):.0f} %" if has else "")
            cost = f"{pool.price * len(held):g}" if pool.price else ""
            rows.append([name, f"{len(held)} of {pool.nodes}", *parts, cost])
        head = [("pool", False), ("nodes", True), ("cpu", True), ("memory", True), ("gpu", True), ("price", True)]
        return "Node pools, used of all nodes", head, rows

    def _nodes(self) -> tuple[str, list[tuple[str, bool]], list[list[str]]]:
        """A picture of the allocation: one line for nodes of a pool that hold the same."""
        rows = []
        for name, nodes in self.plan.allocation.nodes.items():
            alike = Counter(tuple(sorted(held.items())) for held in nodes)
            for held, count in alike.items():
                replicas = ", ".join(f"version {version} × {number}" for version, number in held)
                rows.append([name, str(count), _bar(_used(self.plan, name, dict(held))), replicas])
        head = [("pool", False), ("nodes", True), ("fullest by", False), ("holds", False)]
        return "Nodes", head, rows[:_MOST_SHOWN]

    def _roles(self, version: str) -> list[str]:
        around = self.plan.around
        return [
            name
            for name, holds in (
                ("default", version == self.plan.default),
                ("fallback", version == (around.fallback or self.plan.default)),
                ("under load", around.degrade is not None and version == around.degrade.to),
                ("shadow", version in around.shadow),
            )
            if holds
        ]

    def _lines(self) -> list[str]:
        lines = [self.verdict]
        if len(self.segments) > _MOST_SHOWN:
            lines.append(f"{len(self.segments) - _MOST_SHOWN} smaller segments aren't shown.")
        budget = self.plan.spec.resources.budget
        for resource, used in self.plan.allocation.used.items():
            limit = getattr(budget, resource, None)
            if limit is not None:
                lines.append(f"Budget of {resource}: {amount(resource, used)} of {amount(resource, limit)}.")
        asked, p99 = self.plan.spec.resources.slo.mixture_p99, self.plan.allocation.p99_ms
        if asked is not None and p99 is not None:
            lines.append(f"p99 of all answers together, by each version's own: {p99:.3g} ms of {1000 * asked:g} ms.")
        degrade, slo = self.plan.around.degrade, self.plan.spec.resources.slo.p99
        if degrade is not None:
            bounds = [f"within {1000 * degrade.enter * slo:.4g} ms"] if slo is not None else []
            bounds += [f"with {most} calls of version {name} at once" for name, most in degrade.concurrency.items()]
            lines.append(f"Under load version {degrade.to} answers what others can't {', or '.join(bounds)}.")
        moves = self.plan.allocation.moves
        if moves is not None:
            lines.append(f"Replicas to start that the plan in force doesn't have: {moves}.")
        if self.deterministic:
            lines.append(
                "Hint: each decision of this plan is certain, so `lepton replay -f` can't tell from its log what "
                "another plan would have earned. `around: {explore: 0.05}` in the plan file makes that possible."
            )
        return lines


def gain_text(gain: Gain) -> str:
    """`+0.0042 [0.0021, 0.0063] log_loss`."""
    low = "-∞" if gain.low is None else f"{gain.low:.3g}"
    high = "∞" if gain.high is None else f"{gain.high:.3g}"
    return f"{gain.value:+.3g} [{low}, {high}] {gain.metric}"


def verdict_of(gain: Gain | None, default: str, *, routes: bool) -> str:
    """What to expect of the plan, in a sentence that doesn't promise what wasn't shown."""
    if not routes:
        return f"Routing isn't expected to win: nothing better than version {default} was found, it answers everything."
    if gain is None:
        return f"Whether this is better than version {default} alone wasn't measured."
    text = f"Expected against version {default} alone, positive is better: {gain_text(gain)} ({gain.n:,} rows)."
    if gain.relative_time is not None and abs(gain.relative_time - 1) >= 0.005:
        text += f" Model time a row: {gain.relative_time:.3g} of version {default}'s."
    if gain.low is not None and gain.low > 0:
        return text
    if gain.high is not None and gain.high < 0:
        return f"{text} This plan is expected to be worse than version {default} alone."
    return f"{text} The interval covers zero: routing isn't shown to win."


def _shares(shares: dict[str, float]) -> str:
    answering = {version: share for version, share in shares.items() if share > 0}
    if len(answering) == 1:
        return next(iter(answering))
    return ", ".join(f"{version} {100 * share:.3g} %" for version, share in answering.items())


def _resources(given: ArmResources) -> str:
    parts = {"cpu": given.cpu, "memory": given.memory, "gpu": given.gpu}
    amounts = [amount(name, value) for name, value in parts.items() if value]
    replicas = [f"{count} × {pool}" for pool, count in given.pools.items()]
    return ", ".join([*replicas, *amounts])


def _used(plan: DeploymentPlan, pool: str, held: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """What a node's replicas are given of each resource, and what the node has."""
    node = plan.spec.resources.pools[pool]
    has = {"cpu": node.cpu, "memory": node.memory, "gpu": node.gpu}
    given = dict.fromkeys(has, 0.0)
    for arm in plan.arms:
        for name in has:
            part = (getattr(arm.resources, name) or 0.0) / arm.resources.replicas
            given[name] += held.get(arm.version, 0) * part
    return {name: (given[name], float(value)) for name, value in has.items() if value}


def _bar(used: Mapping[str, tuple[float, float]]) -> str:
    """`█████░░░░░ memory 52 %`: the resource of which a node is fullest."""
    name, part = max(((name, given / has) for name, (given, has) in used.items()), key=lambda item: item[1])
    filled = min(round(_BAR * part), _BAR)
    return f"{'█' * filled}{'░' * (_BAR - filled)} {name} {100 * part:.0f} %"
