"""What a new plan would have earned on logged traffic, or which decisions lack what it takes to say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.display import plain_text
from lepton_plugins.errors import NoRewards, ReplayImpossible
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.records.report import Estimate
from lepton_plugins.replay.estimators import (
    Influence,
    direct,
    doubly_robust,
    effective_size,
    expected_size,
    ips,
    on_policy,
    snips,
)
from lepton_plugins.replay.features import design
from lepton_plugins.replay.logged import Logged
from lepton_plugins.routing.deciding import Decider
from lepton_plugins.routing.opening import policy_of

if TYPE_CHECKING:
    from rich.console import RenderableType

Floats = NDArray[np.float64]

#: No number is given that rests on fewer units of equal weight.
LEAST_UNITS = 30.0
#: Probability that the logged plan must have given what the new one would choose.
_SOME = 1e-12
_SHOWN = 10

#: The estimators, in the order in which they are shown; the verdict is the last one's.
ESTIMATORS = ("direct", "ips", "snips", "dr")


class Unsupported(Record):
    """Decisions in which the new plan may choose a version that the logged one never would have."""

    version: VersionNumber
    segment: str | None
    decisions: int


class OffPolicy(Record):
    """What a new plan would have earned on the decisions of a log; no estimates where `refusal` says why."""

    model: str
    plan: str
    """Digest of the new plan."""
    policy: str
    decisions: int
    rewarded: int
    """Decisions with a reward: the others tell nothing, and are taken to be no different."""
    units: int
    forced: int = 0
    consulted: int = 0
    """Decisions that were made from several versions' answers: they tell nothing of another plan."""
    coverage: float
    """The part of the new plan's choices that the logged one could have made."""
    agreement: float
    """How probable the logged choices are under the new plan, on average."""
    effective_size: float
    """How many units of equal weight would tell as much, by the weights that came up or fewer by those to expect."""
    logged: Estimate | None = None
    """What was earned."""
    estimates: dict[str, Estimate] = {}
    difference: Estimate | None = None
    """Of the doubly robust estimate to what was earned, on the same decisions."""
    unsupported: tuple[Unsupported, ...] = ()
    refusal: str | None = None
    warnings: tuple[str, ...] = ()
    verdict: str

    def __str__(self) -> str:
        return plain_text(self.table())

    def table(self) -> RenderableType:
        """For a terminal."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from lepton_plugins.evaluation.comparison import interval_text

        def table(*titles: str) -> Table:
            made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
            for number, title in enumerate(titles):
                made.add_column(title, justify="right" if number else "left", no_wrap=bool(number))
            return made

        parts: list[RenderableType] = []
        if self.logged is not None:
            shown = table("mean reward", "95 % interval")
            shown.add_row("as logged", interval_text(self.logged))
            for name, estimate in self.estimates.items():
                shown.add_row(f"new plan, {_NAMES[name]}", interval_text(estimate))
            if self.difference is not None:
                shown.add_row("difference", interval_text(self.difference))
            parts.append(shown)
        facts = table("decisions", "")
        for title, figure in (
            ("in the log", f"{self.decisions:,}"),
            ("with a reward", f"{self.rewarded:,}"),
            ("units", f"{self.units:,}"),
            ("effective sample size", f"{self.effective_size:,.0f}"),
            ("choices of the new plan that were possible", f"{100 * self.coverage:.4g} %"),
            ("agreement", f"{100 * self.agreement:.3g} %"),
        ):
            facts.add_row(title, figure)
        parts.append(facts)
        if self.unsupported:
            lacking = table("segment", "version", "decisions without support")
            for item in self.unsupported[:_SHOWN]:
                lacking.add_row(Text(item.segment or "–"), item.version, f"{item.decisions:,}")
            parts.append(lacking)
        parts += [Text(f"Note: {warning}") for warning in self.warnings]
        return Group(*parts, "", Text(self.verdict, style="bold"))


_NAMES = {"direct": "direct method", "ips": "IPS", "snips": "SNIPS", "dr": "doubly robust"}


def off_policy(
    logged: Logged, plan: DeploymentPlan, files: Mapping[str, bytes], *, level: float = 0.95, seed: int = 0
) -> OffPolicy:
    """Estimate what `plan` would have earned. Higher rewards are better.

    Forced decisions and those made from several versions' answers are left out. ReplayImpossible where the new
    plan can't be asked what it would choose, NoRewards where nothing is known of what was earned, ContextNotLogged
    where the log lacks a column that it reads.
    """
    policy = policy_of(plan, files)
    if policy.consults:
        raise ReplayImpossible(
            f"the policy {plan.policy.kind} makes its answers of several versions' answers, which no log has"
        )
    if getattr(policy, "learns", False):
        raise ReplayImpossible(
            f"the policy {plan.policy.kind} learns as it goes: what it would have chosen depends on what it would "
            f"have learned"
        )
    usable = ~logged.forced & ~logged.consulted
    if logged.consulted.any() and not usable.any():
        raise ReplayImpossible(
            "the log's decisions were made from several versions' answers: what one version alone earns isn't in them"
        )
    rows = logged.take(usable & np.isfinite(logged.rewards))
    if not len(rows):
        raise NoRewards(len(logged), logged.labels)
    decider = Decider(plan, policy)
    decided = decider.replay(rows.context, rows.draws)
    return estimated(
        rows,
        _brought(decided.vectors[decided.cells], decider.versions, rows.versions),
        decider.versions,
        plan=plan.digest,
        model=plan.model,
        policy=plan.policy.kind,
        log=logged,
        level=level,
        seed=seed,
    )


def estimated(
    rows: Logged,
    target: Floats,
    versions: Sequence[str],
    *,
    plan: str,
    model: str,
    policy: str,
    log: Logged,
    level: float = 0.95,
    seed: int = 0,
) -> OffPolicy:
    """The estimates for a target policy whose propensities are known, shape (rows, versions of the log + others).

    `versions` are the target's; those that the log doesn't have stand behind the log's columns, in their order.
    """
    names = [*rows.versions, *(version for version in versions if version not in rows.versions)]
    vectors = np.zeros_like(target)
    vectors[:, : len(rows.versions)] = rows.vectors
    lacks = (target > _SOME) & (vectors <= _SOME)
    coverage = float(1.0 - (target * lacks).sum(axis=1).mean())
    own = target[np.arange(len(rows)), rows.chosen]
    weights = own / np.maximum(vectors[np.arange(len(rows)), rows.chosen], _SOME)
    possible = np.where(lacks, 0.0, target)
    expected = expected_size(possible, np.maximum(vectors, _SOME), rows.units, rows.draws)
    size = min(effective_size(weights, rows.units), expected)
    earned = on_policy(rows.rewards)
    units = int(rows.units.max()) + 1
    facts = {
        "model": model,
        "plan": plan,
        "policy": policy,
        "decisions": len(log),
        "rewarded": len(rows),
        "units": units,
        "forced": int(log.forced.sum()),
        "consulted": int(log.consulted.sum()),
        "coverage": coverage,
        "agreement": float(own.mean()),
        "effective_size": size,
        "logged": _estimate(earned, rows, "mean", level),
        "warnings": tuple(_warnings(rows, log)),
    }
    unsupported = _unsupported(lacks, rows, names)
    if unsupported:
        refusal = _without_support(unsupported, lacks, rows)
        return OffPolicy(**facts, unsupported=unsupported, refusal=refusal, verdict=f"No estimate: {refusal}")
    if size < LEAST_UNITS or units < LEAST_UNITS:
        refusal = (
            f"the decisions tell as much of the new plan as {min(size, units):.0f} units would, and at least "
            f"{LEAST_UNITS:.0f} are needed. Log more, or explore more (around.explore)."
        )
        return OffPolicy(**facts, refusal=refusal, verdict=f"No estimate: {refusal}")
    features = design(rows.context, len(rows))
    found = {
        "direct": direct(rows.rewards, rows.chosen, target, features),
        "ips": ips(rows.rewards, weights),
        "snips": snips(rows.rewards, weights),
        "dr": doubly_robust(rows.rewards, rows.chosen, weights, target, features, rows.units, seed),
    }
    estimates = {name: _estimate(found[name], rows, name, level) for name in ESTIMATORS}
    difference = _estimate(found["dr"] - earned, rows, "dr", level)
    return OffPolicy(**facts, estimates=estimates, difference=difference, verdict=_verdict(difference, level))


def _brought(vectors: Floats, versions: Sequence[str], known: Sequence[str]) -> Floats:
    """A target's vectors with the log's versions first, in the log's order, and the target's others behind."""
    others = [version for version in versions if version not in known]
    place = {version: index for index, version in enumerate([*known, *others])}
    brought = np.zeros((len(vectors), len(place)))
    brought[:, [place[version] for version in versions]] = vectors
    return brought


def _estimate(influence: Influence, rows: Logged, method: str, level: float) -> Estimate:
    low, high = influence.interval(rows.units, level)
    return Estimate(
        value=influence.value,
        low=low if np.isfinite(low) else None,
        high=high if np.isfinite(high) else None,
        level=level,
        method=f"{method}, Student's t clustered by unit",
        n=len(rows),
        greater_is_better=True,
    )


def _unsupported(lacks: NDArray[np.bool_], rows: Logged, names: Sequence[str]) -> tuple[Unsupported, ...]:
    found: dict[tuple[str, str | None], int] = {}
    for row, arm in zip(*np.nonzero(lacks), strict=True):
        place = (names[arm], rows.segments[row])
        found[place] = found.get(place, 0) + 1
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return tuple(Unsupported(version=version, segment=segment, decisions=n) for (version, segment), n in ordered)


def _without_support(unsupported: Sequence[Unsupported], lacks: NDArray[np.bool_], rows: Logged) -> str:
    first = unsupported[0]
    where = f" in segment {first.segment}" if first.segment is not None else ""
    never = sorted({item.version for item in unsupported if item.version not in rows.versions})
    told = (
        f"in {int(lacks.any(axis=1).sum()):,} of {len(rows):,} decisions the new plan may choose a version that the "
        f"logged plan gave no chance, such as version {first.version}{where} ({first.decisions:,})."
    )
    if never:
        told += f" Version {', '.join(never)} isn't in the log at all."
    return f"{told} Serve a plan with `around: {{explore: 0.05}}` that has these versions first."


def _warnings(rows: Logged, log: Logged) -> list[str]:
    found = []
    usable = int((~log.forced & ~log.consulted).sum())
    if len(rows) < usable:
        found.append(
            f"{usable - len(rows):,} of {usable:,} decisions have no reward; the estimate takes them to be no different"
        )
        by_arm = _rates(log)
        if by_arm and max(by_arm.values()) > 1.2 * min(by_arm.values()) + 0.02:
            told = ", ".join(f"{version} {100 * rate:.0f} %" for version, rate in by_arm.items())
            found.append(f"rewards come more often for some versions than for others ({told}): that may not be so")
    if log.forced.any():
        found.append(f"{int(log.forced.sum()):,} forced decisions are left out")
    if log.consulted.any():
        found.append(f"{int(log.consulted.sum()):,} decisions made from several versions' answers are left out")
    if rows.elsewhere.any():
        found.append(
            f"{int(rows.elsewhere.sum()):,} of {len(rows):,} decisions were answered by another version than the one "
            f"chosen, which failed or had too much to do: they count for the one chosen"
        )
    return found


def _rates(log: Logged) -> dict[str, float]:
    """The part of each version's decisions that have a reward, of those with a hundred or more."""
    usable = ~log.forced & ~log.consulted
    rates = {}
    for index, version in enumerate(log.versions):
        here = usable & (log.chosen == index)
        if here.sum() >= 100:
            rates[version] = float(np.isfinite(log.rewards[here]).mean())
    return rates


def _verdict(difference: Estimate, level: float) -> str:
    from lepton_plugins.evaluation.comparison import interval_text

    told = f"{interval_text(difference)} a decision ({level:.0%} interval, doubly robust)"
    if difference.low is not None and difference.low > 0:
        return f"The new plan would have earned more than what was logged: {told}."
    if difference.high is not None and difference.high < 0:
        return f"The new plan would have earned less than what was logged: {told}."
    return f"It isn't shown that the new plan would have earned more or less than what was logged: {told}."
