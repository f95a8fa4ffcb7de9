"""The backend `remote`: versions whose files say which server runs them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from lepton_plugins.canonical import canonical_json
from lepton_plugins.errors import ModelFilesInvalid
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.backend import Inspection, LoadedModel
from lepton_plugins.serving.metadata import model_metadata
from lepton_remote.endpoint import FILE, Endpoint, Metadata, read_endpoint
from lepton_remote.opening import open_peer


class RemoteBackend:
    """Loads no code and no weights: `remote.json` names a server of the Open Inference Protocol, or of OpenAI's."""

    name = "remote"

    def inspect(self, path: Path) -> Inspection | None:
        endpoint = read_endpoint(path)
        if endpoint is None:
            return None
        missing = ("grpc",) if endpoint.url.startswith("grpc") and not find_spec("grpc") else ()
        return Inspection(
            format="remote",
            carries_code=False,
            signature=endpoint.signature,
            missing=missing,
            install="pip install 'lepton-plugins[grpc]'" if missing else "",
        )

    def load(self, path: Path, *, threads: int | None = None) -> LoadedModel:
        """The peer isn't asked before the first call: a router starts while one of its peers is away."""
        from lepton_remote.model import RemoteModel
        from lepton_remote.openai_peer import ChatModel

        endpoint = read_endpoint(path)
        if endpoint is None:
            raise ModelFilesInvalid(path, f"it holds no {FILE}")
        return ChatModel(endpoint) if endpoint.protocol == "openai" else RemoteModel(endpoint)

    def point(self, to: Path, url: str, *, model: str, plan: DeploymentPlan, timeout: float) -> None:
        """Write `to`/remote.json for a server of Lepton's own, which says of its model what its plan says."""
        said = Metadata.model_validate(model_metadata(plan))
        endpoint = Endpoint(url=url, model=model, timeout=timeout, classes=plan.classes, metadata=said)
        (to / FILE).write_bytes(canonical_json(endpoint.model_dump(mode="json")))


def describe(url: str, model: str, to: Path | str, *, version: str | None = None, **settings: object) -> Path:
    """Write `to`/remote.json, the files of a version that the server at `url` runs, from what it says of it now.

    `settings` are further fields of `Endpoint`. PeerUnavailable.
    """
    from lepton_remote.openai_peer import OpenAiPeer

    unasked = {"url": url, "model": model, "version": version, "metadata": {"name": model}, **settings}
    endpoint = Endpoint.model_validate(unasked)
    peer = OpenAiPeer(endpoint) if endpoint.protocol == "openai" else open_peer(endpoint)
    try:
        metadata = peer.metadata()
    finally:
        peer.close()
    return Endpoint.model_validate({**unasked, "metadata": metadata}).write(Path(to))
