"""Versions that a plan leaves out, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lepton_plugins.planning.candidates import Admission, Candidate, by_number
from lepton_plugins.records.plan import Rejection
from lepton_plugins.routing.policy import Proposal, SelectionPolicy

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions


def rejected(
    admission: Admission,
    paired: PairedPredictions,
    chosen: Sequence[Candidate],
    policy: type[SelectionPolicy],
    kind: str,
    proposal: Proposal | None,
) -> tuple[Rejection, ...]:
    """Those that can't be arms, and the candidates that the policy, of this kind, or the solver gave nothing."""
    means = dict(zip(paired.versions, paired.means.tolist(), strict=True))
    default = means[paired.versions[paired.default]]
    unchosen = [
        Rejection(
            version=item.name,
            code="no_share",
            reason=f"it gets no traffic: {paired.metric} {means[item.name]:.5g} over all rows, the default's is "
            f"{default:.5g}; {_passed_over(item.name, paired, policy, kind, proposal)}",
        )
        for item in admission.candidates
        if item not in chosen
    ]
    return tuple(sorted([*admission.rejected, *unchosen], key=lambda item: by_number(item.version)))


def _passed_over(
    version: str, paired: PairedPredictions, policy: type[SelectionPolicy], kind: str, proposal: Proposal | None
) -> str:
    """Why no row goes to a version, as far as that is known."""
    if proposal is None:
        return f"{kind} {'asks' if policy.consults else 'chooses'} it for no row"
    if proposal.allowed[:, paired.versions.index(version)].any():
        return "others gain more for what they use, or there is no room for it"
    return "no segment in which it is proved better"
