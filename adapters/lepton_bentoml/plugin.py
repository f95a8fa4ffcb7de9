"""What Lepton offers for BentoML: the target, what deploys it, what asks another service of a bento."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import BackendOffer, TargetOffer


@hookimpl
def lepton_backends() -> list[BackendOffer]:
    return [
        BackendOffer(
            name="bentoml",
            summary="A version that another service of the same bento runs",
            target="lepton_bentoml.backend:BentomlBackend",
            priority=150,
        )
    ]


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
