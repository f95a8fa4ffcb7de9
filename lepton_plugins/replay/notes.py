"""What a reader of an estimate should know of the log that it rests on."""

from __future__ import annotations

import numpy as np

from lepton_plugins.evaluation.interval_text import interval_text
from lepton_plugins.records.report import Estimate
from lepton_plugins.replay.logged import Logged


def notes(rows: Logged, log: Logged) -> list[str]:
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


def misfit(difference: Estimate) -> list[str]:
    """What to say where the doubly robust estimate is provably another than that of the direct method."""
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return []
    told = f"the doubly robust estimate less that of the direct method is {interval_text(difference)}"
    return [f"{told}: rewards aren't as the direct method's model has them, go by the doubly robust estimate"]
