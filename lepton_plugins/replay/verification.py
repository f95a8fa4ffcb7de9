"""Logged decisions made once more: from the logged context and draw the same plan must choose the same, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.display import plain_text
from lepton_plugins.errors import ContextNotLogged
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.record import Record
from lepton_plugins.routing.deciding import EXPLORE, HOLDOUT, Decider
from lepton_plugins.routing.opening import policy_of
from lepton_plugins.routing.policy import invert
from lepton_plugins.routing.store import DecisionBlock

if TYPE_CHECKING:
    from rich.console import RenderableType

#: The plan of a digest with its policy's files; None where nobody has it.
FindPlan = Callable[[str, str], tuple[DeploymentPlan, Mapping[str, bytes]] | None]

_SHOWN = 10
#: How far a vector may lie from the logged one after holdout and exploring are taken out of it again.
_NEAR = 1e-9


class Mismatch(Record):
    """A decision that came out differently."""

    decision: str
    logged: str
    replayed: str


class Verification(Record):
    """Decisions that were made once more. `unverifiable` counts, by reason, those that couldn't be."""

    decisions: int
    verified: int
    mismatches: tuple[Mismatch, ...] = ()
    """The first of those that differ."""
    differing: int = 0
    unverifiable: dict[str, int] = {}
    plans: int
    verdict: str

    @property
    def passed(self) -> bool:
        return self.differing == 0 and self.verified > 0

    def __str__(self) -> str:
        return plain_text(self.table())

    def table(self) -> RenderableType:
        """For a terminal."""
        from rich.console import Group
        from rich.text import Text

        lines = [f"{item.decision}: logged {item.logged}, replayed {item.replayed}" for item in self.mismatches]
        lines += [f"{count:,} decisions can't be verified: {reason}" for reason, count in self.unverifiable.items()]
        return Group(*map(Text, lines), Text(self.verdict, style="bold"))


def verify(blocks: Iterable[DecisionBlock], find: FindPlan) -> Verification:
    """Make the decisions of a log once more; arms, propensities and draws must be the logged ones."""
    deciders: dict[str, Decider | None] = {}
    total = verified = differing = 0
    mismatches: list[Mismatch] = []
    unverifiable: dict[str, int] = {}
    for block in blocks:
        total += len(block)
        if block.plan not in deciders:
            found = find(block.model, block.plan)
            deciders[block.plan] = None if found is None else Decider(found[0], policy_of(*found))
        decider = deciders[block.plan]
        reason = _unfit(block, decider)
        if reason is None:
            assert decider is not None
            try:
                wrong, replayed = _replayed(block, decider)
            except ContextNotLogged as error:
                reason = str(error)
        if reason is not None:
            unverifiable[reason] = unverifiable.get(reason, 0) + len(block)
            continue
        verified += len(block)
        differing += int(wrong.sum())
        for row in np.flatnonzero(wrong)[: _SHOWN - len(mismatches)].tolist():
            decision = block.row(row)
            mismatches.append(
                Mismatch(
                    decision=decision.id, logged=_told(decision.chosen, decision.propensity), replayed=replayed(row)
                )
            )
    plans = sum(decider is not None for decider in deciders.values())
    return Verification(
        decisions=total,
        verified=verified,
        mismatches=tuple(mismatches),
        differing=differing,
        unverifiable=unverifiable,
        plans=plans,
        verdict=_verdict(total, verified, differing),
    )


def _unfit(block: DecisionBlock, decider: Decider | None) -> str | None:
    """Why a block's decisions can't be made once more."""
    if decider is None:
        return f"the plan {block.plan[:19]}… isn't in the registry, nor in the directory that was named"
    if block.consulted:
        return f"the policy {decider.plan.policy.kind} chooses by what versions answer, which isn't logged"
    told = decider.plan.spec.decisions
    hidden = sorted({*told.redact, *told.drop} & set(decider.features))
    if hidden and not block.forced:
        return f"the plan keeps {', '.join(hidden)} out of the log"
    return None


def _replayed(block: DecisionBlock, decider: Decider) -> tuple[NDArray[np.bool_], Callable[[int], str]]:
    """Which rows differ, and what each would be."""
    logged = block.vectors[block.cells]
    if tuple(block.arms) != decider.versions:
        return np.ones(len(block), dtype=bool), lambda _: f"arms {', '.join(decider.versions)}"
    if block.forced:
        arms, vectors = block.chosen, np.eye(len(decider.versions))[block.chosen]
    elif getattr(decider.policy, "learns", False):
        arms, vectors = _drawn(block, decider, logged), logged
    else:
        decided = decider.replay(block.context, block.draws)
        arms, vectors = decided.arms, decided.vectors[decided.cells]
    wrong = (arms != block.chosen) | (vectors != logged).any(axis=1)
    return wrong, lambda row: _told(decider.versions[int(arms[row])], vectors[row].tolist())


def _drawn(block: DecisionBlock, decider: Decider, logged: NDArray[np.float64]) -> NDArray[np.intp]:
    """The arms that a policy which learns draws from what it had logged as its vectors."""
    reasons = [block.reasons[cell] for cell in block.cells.tolist()]
    around = np.array([reason in (HOLDOUT, EXPLORE) for reason in reasons])
    own = decider.unmixed(logged)
    drawn = invert(np.where(own < _NEAR, 0.0, own), block.draws)
    arms = decider.around(drawn, block.draws)
    # Between two arms the last bit may decide: there either is right.
    edges = np.cumsum(own, axis=1)
    near = (np.abs(edges - (block.draws / 2.0**64)[:, None]) < _NEAR).any(axis=1) & ~around
    return np.where(near, block.chosen, arms)


def _told(version: str, vector: Iterable[float]) -> str:
    return f"version {version} of {', '.join(f'{part:.6g}' for part in vector)}"


def _verdict(total: int, verified: int, differing: int) -> str:
    if not total:
        return "The log has no decisions."
    if not verified:
        return f"None of {total:,} decisions can be verified."
    left = "" if verified == total else f"; {total - verified:,} can't be verified"
    if differing:
        return f"{differing:,} of {verified:,} decisions differ from what was logged{left}."
    return f"{verified:,} decisions were made once more, and all are the same{left}."
