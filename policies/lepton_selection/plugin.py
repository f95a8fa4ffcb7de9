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
            name="learned",
            summary="A small model predicts for each request which version does best, less the price of its time",
            target="lepton_selection.learned:Learned",
            requires=("onnxruntime",),
            install="pip install 'lepton-plugins[learned]'",
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
            name="weighted",
            summary="Fixed shares, assigned by a stable slot table",
            target="lepton_selection.weighted:Weighted",
        ),
    ]
