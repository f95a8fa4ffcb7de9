"""What Lepton offers for KServe: the target, and what deploys it."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import TargetOffer


@hookimpl
def lepton_targets() -> list[TargetOffer]:
    return [
        TargetOffer(
            name="kserve",
            summary="An InferenceService whose predictor is the router, with its image and a kustomization",
            target="lepton_kserve.target:KserveTarget",
            deployer="lepton_kserve.deployer:KserveDeployer",
        )
    ]
