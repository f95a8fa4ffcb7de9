"""The selection policies: which version answers a request."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import PolicyOffer


@hookimpl
def lepton_policies() -> list[PolicyOffer]:
    return [
        PolicyOffer(
            name="cascade",
            summary="The cheap version first; rows that it isn't sure of go on to the next",
            target="lepton_selection.cascade:Cascade",
        ),
        PolicyOffer(
            name="ensemble",
            summary="All members' answers together: mean, weighted, stacked or by vote",
            target="lepton_selection.ensemble:Ensemble",
        ),
        PolicyOffer(
            name="epsilon_greedy",
            summary="Learns from rewards: the best mean so far, and now and then any version",
            target="lepton_selection.epsilon_greedy:EpsilonGreedy",
        ),
        PolicyOffer(
            name="exp3",
            summary="Learns from rewards that follow no distribution: exponential weights",
            target="lepton_selection.exp3:Exp3",
        ),
        PolicyOffer(
            name="learned",
            summary="A small model predicts for each request which version does best, less the price of its time",
            target="lepton_selection.learned:Learned",
            requires=("onnxruntime",),
            install="pip install 'lepton-plugins[learned]'",
        ),
        PolicyOffer(
            name="lints",
            summary="Learns from rewards by context: each version as often as it is probable to be the best",
            target="lepton_selection.lints:LinTs",
        ),
        PolicyOffer(
            name="linucb",
            summary="Learns from rewards by context: the version whose reward could be highest",
            target="lepton_selection.linucb:LinUcb",
        ),
        PolicyOffer(
            name="rules",
            summary="The version of the first rule that holds, conditions in CEL on columns and headers",
            target="lepton_selection.rules:Rules",
            requires=("cel",),
            install="pip install 'lepton-plugins[rules]'",
        ),
        PolicyOffer(
            name="segment_best",
            summary="In each segment the version that is provably better there, else the default",
            target="lepton_selection.segment_best:SegmentBest",
        ),
        PolicyOffer(
            name="thompson",
            summary="Learns from rewards: each version as often as it is probable to be the best",
            target="lepton_selection.thompson:Thompson",
        ),
        PolicyOffer(
            name="ucb",
            summary="Learns from rewards: the version whose mean reward could be highest",
            target="lepton_selection.ucb:Ucb",
        ),
        PolicyOffer(
            name="weighted",
            summary="Fixed shares, assigned by a stable slot table",
            target="lepton_selection.weighted:Weighted",
        ),
    ]
