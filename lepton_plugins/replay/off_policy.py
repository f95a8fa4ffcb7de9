"""What a new plan would have earned on logged traffic, or which decisions lack what it takes to say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import NoRewards, ReplayImpossible
from lepton_plugins.evaluation.interval_text import interval_text
from lepton_plugins.records.plan import DeploymentPlan
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
from lepton_plugins.replay.notes import misfit, notes
from lepton_plugins.replay.report import OffPolicy
from lepton_plugins.replay.support import unsupported, without_support
from lepton_plugins.routing.deciding import Decider
from lepton_plugins.routing.opening import policy_of

Floats = NDArray[np.float64]

#: No number is given that rests on fewer units of equal weight.
LEAST_UNITS = 30.0
#: Probability that the logged plan must have given what the new one would choose.
_SOME = 1e-12

#: The estimators, in the order in which they are shown; the verdict is the last one's.
ESTIMATORS = ("direct", "ips", "snips", "dr")


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
    facts: dict[str, Any] = {
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
    }
    told = notes(rows, log)
    lacking = unsupported(lacks, rows, names)
    if lacking:
        refusal = without_support(lacking, lacks, rows)
        facts |= {"unsupported": lacking, "refusal": refusal, "warnings": tuple(told)}
        return OffPolicy(**facts, verdict=f"No estimate: {refusal}")
    if size < LEAST_UNITS or units < LEAST_UNITS:
        refusal = (
            f"the decisions tell as much of the new plan as {min(size, units):.0f} units would, and at least "
            f"{LEAST_UNITS:.0f} are needed. Log more, or explore more (around.explore)."
        )
        return OffPolicy(**facts, refusal=refusal, warnings=tuple(told), verdict=f"No estimate: {refusal}")
    features = design(rows.context, len(rows))
    found = {
        "direct": direct(rows.rewards, rows.chosen, target, features, rows.units),
        "ips": ips(rows.rewards, weights),
        "snips": snips(rows.rewards, weights),
        "dr": doubly_robust(rows.rewards, rows.chosen, weights, target, features, rows.units, seed),
    }
    estimates = {name: _estimate(found[name], rows, name, level) for name in ESTIMATORS}
    difference = _estimate(found["dr"] - earned, rows, "dr", level)
    told += misfit(_estimate(found["dr"] - found["direct"], rows, "dr", level))
    facts |= {"estimates": estimates, "difference": difference, "warnings": tuple(told)}
    return OffPolicy(**facts, verdict=_verdict(difference, level))


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


def _verdict(difference: Estimate, level: float) -> str:
    told = f"{interval_text(difference)} a decision ({level:.0%} interval, doubly robust)"
    if difference.low is not None and difference.low > 0:
        return f"The new plan would have earned more than what was logged: {told}."
    if difference.high is not None and difference.high < 0:
        return f"The new plan would have earned less than what was logged: {told}."
    return f"It isn't shown that the new plan would have earned more or less than what was logged: {told}."
