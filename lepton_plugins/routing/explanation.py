"""Why a row goes where it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lepton_plugins.display import new_table, plain_text
from lepton_plugins.records.around import Degrade
from lepton_plugins.records.decision import Decision
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.record import Record
from lepton_plugins.routing.counters import ShadowCount
from lepton_plugins.routing.deciding import EXPLORE, HOLDOUT
from lepton_plugins.routing.policy import Candidate

if TYPE_CHECKING:
    from rich.console import RenderableType


class Step(Record):
    """One layer of the stack: guard, holdout, sticky, explore, policy, degrade, fallback or shadow, and what it did."""

    name: str
    outcome: str
    decides: bool = False
    """Whether this layer settled the arm."""


class Explanation(Record):
    """A decision with everything it rests on: the stack in its order, and every arm with why it won or lost."""

    model: str
    plan: str
    chosen: str
    label: str | None = None
    reason: str
    segment: str | None = None
    context: dict[str, Any] = {}
    key: str | None = None
    """Keyed hash of the unit's key."""
    draw: int
    slot: int
    """Which of the 65,536 slots the draw falls into."""
    state: str | None = None
    """Revision of what the policy learned."""
    propensity: tuple[float, ...]
    stack: tuple[Step, ...]
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        return plain_text(self.table())

    def table(self) -> RenderableType:
        """For a terminal."""
        from rich.console import Group
        from rich.text import Text

        label = f" ({self.label})" if self.label else ""
        segment = f", segment {self.segment}" if self.segment else ""
        stack = new_table()
        stack.add_column("stack", no_wrap=True)
        stack.add_column("", overflow="fold")
        for step in self.stack:
            style = "bold" if step.decides else ""
            stack.add_row(Text(step.name, style=style), Text(step.outcome, style=style))
        arms = new_table()
        for title, figures in (("version", False), ("score", True), ("propensity", True), ("why", False)):
            arms.add_column(title, justify="right" if figures else "left", no_wrap=figures, overflow="fold")
        for candidate in self.candidates:
            style = "bold" if candidate.version == self.chosen else ""
            arms.add_row(
                Text(f"{candidate.version} ({candidate.label})" if candidate.label else candidate.version, style=style),
                Text("" if candidate.score is None else f"{candidate.score:.4g}", style=style),
                Text(f"{candidate.propensity:.3f}", style=style),
                Text(candidate.reason, style=style),
            )
        return Group(
            Text(f"Version {self.chosen}{label} answers: {self.reason}{segment}", style="bold"),
            "",
            arms,
            "",
            stack,
        )


def explanation(
    plan: DeploymentPlan,
    decision: Decision,
    candidates: Sequence[Candidate],
    shadows: Mapping[str, ShadowCount],
    left_out: Sequence[str] = (),
    moving: Sequence[str] = (),
) -> Explanation:
    """A decision with the layers it passed, and the policy's word on every arm.

    `shadows` are their counts so far, `left_out` the versions that failed too often to be asked now, `moving` those
    that have too much to do.
    """
    labels = {arm.version: arm.label for arm in plan.arms}
    return Explanation(
        model=plan.model,
        plan=decision.plan,
        chosen=decision.chosen,
        label=labels[decision.chosen],
        reason=decision.reason,
        segment=decision.segment,
        context=decision.context,
        key=decision.key,
        draw=decision.draw,
        slot=decision.draw >> 48,
        state=decision.state,
        propensity=decision.propensity,
        stack=_stack(plan, decision, shadows, left_out, moving),
        candidates=tuple(c.model_copy(update={"label": labels[c.version]}) for c in candidates),
    )


def _stack(
    plan: DeploymentPlan,
    decision: Decision,
    shadows: Mapping[str, ShadowCount],
    left_out: Sequence[str],
    moving: Sequence[str],
) -> tuple[Step, ...]:
    around = plan.around
    held = decision.reason == HOLDOUT
    explores = decision.reason == EXPLORE
    guard = {
        "open": "anyone may force a version; none was",
        "token": "who holds the token may force a version; none was",
        "closed": "nobody may force a version",
    }[around.guard]
    holdout = "none"
    if around.holdout:
        share = f"{100 * around.holdout:.4g} % of the units always get version {plan.default}"
        holdout = f"{share}; this one {'does' if held else 'does not'}"
    if decision.key is not None:
        sticky = f"the unit's key gives slot {decision.draw >> 48} of 65536, in every request"
    elif around.sticky is not None:
        sticky = f"no {around.sticky.key}: the slot is drawn for each row"
    else:
        sticky = "off: the slot is drawn for each row"
    fallback = f"version {around.fallback or plan.default} answers if the chosen one can't"
    if around.timeout is not None:
        fallback += f" within {around.timeout:g} s"
    if around.breaker is not None:
        fallback += f"; after {around.breaker.failures} failures in a row it is left out for {around.breaker.wait:g} s"
    if left_out:
        fallback += f"; version {', '.join(left_out)} is left out now"
    steps = [
        Step(name="guard", outcome=guard),
        Step(name="holdout", outcome=holdout, decides=held),
        Step(name="sticky", outcome=sticky),
        Step(name="policy", outcome=f"{plan.policy.kind}: {decision.reason}", decides=not held and not explores),
        Step(name="fallback", outcome=fallback),
    ]
    if around.degrade is not None:
        steps.insert(4, Step(name="degrade", outcome=_degrades(plan, around.degrade, decision.chosen, moving)))
    if around.explore:
        share = f"{100 * around.explore:.4g} % of the units try an arm drawn from all alike"
        told = f"{share}; this one {'does' if explores else 'does not'}"
        steps.insert(3, Step(name="explore", outcome=told, decides=explores))
    if around.shadow:
        seen = [_seen(version, shadows.get(version)) for version in around.shadow]
        steps.append(Step(name="shadow", outcome=f"{'; '.join(seen)}; unseen"))
    return tuple(steps)


def _degrades(plan: DeploymentPlan, degrade: Degrade, chosen: str, moving: Sequence[str]) -> str:
    """When the cheaper arm answers, and whether it does now."""
    if chosen == degrade.to:
        return f"version {chosen} is the cheaper one: it answers"
    p99, most = plan.spec.resources.slo.p99, degrade.concurrency.get(chosen)
    bounds = [f"within {1000 * degrade.enter * p99:.4g} ms"] if p99 is not None else []
    bounds += [f"with at most {most} calls at once"] if most is not None else []
    if not bounds:
        return f"no limit is set for version {chosen}"
    now = "some of its rows move now" if chosen in moving else "none of its rows moves now"
    return f"version {degrade.to} answers where version {chosen} can't {' and '.join(bounds)}; {now}"


def _seen(version: str, count: ShadowCount | None) -> str:
    """What a shadow has shown so far."""
    if count is None or not count.compared:
        return f"version {version} answers too"
    agreed = f"{100 * count.agreed / count.compared:.3g} % of {count.compared:,} rows"
    return f"version {version} answers too: the same on {agreed}"
