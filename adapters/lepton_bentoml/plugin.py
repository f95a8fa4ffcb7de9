"""What Lepton offers for BentoML: the target, and what deploys it."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import TargetOffer


@hookimpl
def lepton_targets() -> list[TargetOffer]:
    return [
        TargetOffer(
            name="bentoml",
            summary="A BentoML project whose service mounts the data plane",
            target="lepton_bentoml.target:BentomlTarget",
            deployer="lepton_bentoml.deployer:BentomlDeployer",
        )
    ]
