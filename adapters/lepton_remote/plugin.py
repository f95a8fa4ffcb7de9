"""What Lepton offers for models that other servers run."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import BackendOffer


@hookimpl
def lepton_backends() -> list[BackendOffer]:
    return [
        BackendOffer(
            name="remote",
            summary="A model that another server runs, over the Open Inference Protocol (HTTP, gRPC) or OpenAI's",
            target="lepton_remote.backend:RemoteBackend",
            priority=200,
        )
    ]
