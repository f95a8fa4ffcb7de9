"""Which client a peer is asked by."""

from __future__ import annotations

from lepton_remote.endpoint import Endpoint
from lepton_remote.http_peer import HttpPeer
from lepton_remote.peer import Peer


def open_peer(endpoint: Endpoint) -> Peer:
    """The client that the URL's scheme asks for."""
    if endpoint.url.startswith("grpc"):
        from lepton_remote.grpc_peer import GrpcPeer

        return GrpcPeer(endpoint)
    return HttpPeer(endpoint)
