"""What `around.degrade` becomes in a plan: the cheaper arm by its number, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lepton_plugins.errors import CheaperArmUnknown
from lepton_plugins.planning.candidates import Candidate, by_number
from lepton_plugins.records.around import Around


def with_cheaper_arm(around: Around, arms: Sequence[Candidate], work: Mapping[str, float]) -> tuple[Around, list[str]]:
    """`around` with `degrade.to`, by default the arm whose rows take the least time by the reports; warnings.

    `work` is the part of the rows that each arm runs for. CheaperArmUnknown where a report has no throughput.
    """
    degrade = around.degrade
    if degrade is None:
        return around, []
    answering = [item for item in arms if item.name not in around.shadow]
    costs = {item.name: item.cost.cpu for item in answering}
    to = degrade.to
    if to is None:
        unknown = [name for name, cost in costs.items() if cost is None]
        if unknown:
            raise CheaperArmUnknown(unknown, list(costs))
        to = min(costs, key=lambda name: (costs[name] or 0.0, by_number(name)))
    made = around.model_copy(update={"degrade": degrade.model_copy(update={"to": to})})
    moved = [name for name in costs if name != to and work.get(name, 0.0) > 0]
    if not moved:
        return made, [
            f"around.degrade has nothing to do: version {to} answers everything already. Name a cheaper version in "
            f"around.degrade.to, or leave degrade out"
        ]
    own = costs[to]
    cheaper = [name for name in moved if own is not None and (costs[name] or own) < own]
    if cheaper:
        return made, [
            f"around.degrade.to: a row of version {to} takes {1000 * (own or 0.0):.3g} ms by its report, more than one "
            f"of version {', '.join(cheaper)}: to move rows from there saves no time"
        ]
    return made, []
