"""A version behind the network, in the shape of a loaded model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import OutputUnavailable
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.signature import Signature
from lepton_plugins.routing import outputs
from lepton_plugins.routing.inputs import numpy_dtype
from lepton_remote.endpoint import Endpoint, TensorMetadata
from lepton_remote.identity import Identity
from lepton_remote.opening import open_peer
from lepton_remote.peer import Peer, PeerAnswerInvalid

_READERS = {
    "proba": outputs.as_proba,
    "label": outputs.as_label,
    "score": outputs.as_score,
    "value": outputs.as_value,
}


class RemoteModel:
    """Asks its peer. The peer needn't be there yet; it must say of the model what it said when the version was
    registered, else DigestMismatch.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.signature: Signature | None = endpoint.signature
        self.classes = endpoint.classes
        self.connections = endpoint.connections
        self._endpoint = endpoint
        self._peer: Peer = open_peer(endpoint)
        self._shapes = {item.name: item.shape for item in endpoint.metadata.inputs}
        self._fields = {field.name: field for field in self.signature.inputs} if self.signature is not None else {}
        self._identity = Identity(endpoint, self._peer.metadata)

    def predict(self, columns: Mapping[str, NDArray[Any]], output: OutputKind) -> NDArray[Any]:
        named = self._output(output)
        self._identity.check()
        given = {name: self._tensor(name, column) for name, column in columns.items()}
        rows = len(next(iter(given.values())))
        answered = self._peer.infer(given, [named] if named is not None else [])
        if named is None and len(answered) == 1:
            (raw,) = answered.values()
        elif named is not None and named in answered:
            raw = answered[named]
        else:
            raise PeerAnswerInvalid(self._endpoint.url, f"it has the outputs {', '.join(answered)}")
        if raw.dtype.kind == "O" and output == "label":
            raw = np.array([v.decode() if isinstance(v, bytes) else v for v in raw.flat], dtype=object)
        return _READERS[output](raw, rows)

    def close(self) -> None:
        self._peer.close()

    def _tensor(self, name: str, column: NDArray[Any]) -> NDArray[Any]:
        field = self._fields.get(name)
        if field is not None and column.dtype != numpy_dtype(field):
            column = column.astype(numpy_dtype(field))
        if len(self._shapes.get(name, (-1,))) == 2 and column.ndim == 1:
            return column.reshape(-1, 1)
        return column

    def _output(self, kind: OutputKind) -> str | None:
        """The output that answers a kind: as the endpoint says, else by its name, else the only one."""
        offered = self._endpoint.metadata.outputs
        if kind in self._endpoint.outputs:
            return self._endpoint.outputs[kind]
        for item in offered:
            if item.name == kind or (kind == "proba" and "prob" in item.name.lower()):
                return item.name
        fitting = [item for item in offered if _fits(item, kind)]
        if len(fitting) == 1:
            return fitting[0].name
        if not offered:
            return None
        raise OutputUnavailable(None, kind, "the outputs " + ", ".join(item.name for item in offered))


def _fits(item: TensorMetadata, kind: OutputKind) -> bool:
    """Whether an output whose name says nothing may be of a kind."""
    if item.name in _READERS:
        return False
    return item.datatype.startswith("FP") != (kind == "label")
