"""What Lepton offers for Evidently."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import EvaluatorOffer


@hookimpl
def lepton_evaluators() -> list[EvaluatorOffer]:
    return [
        EvaluatorOffer(
            name="evidently",
            summary="Evidently's HTML report and its JSON",
            target="lepton_evidently.evaluator:EvidentlyEvaluator",
            requires=("evidently",),
            install="pip install 'lepton-plugins[evidently]'",
        )
    ]
