"""The Open Inference Protocol V2 over HTTP, from the client's side.

Tensors travel as bytes where the server has the binary extension, else as JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InputInvalid, RequestInvalid
from lepton_plugins.serving.binary import HEADER, SIZE, BinaryPart, encode_binary, split
from lepton_plugins.serving.datatypes import datatype_of, decode_tensor
from lepton_remote.connections import Connections
from lepton_remote.endpoint import Endpoint, Metadata, TensorMetadata
from lepton_remote.peer import PeerAnswerInvalid, PeerRefused, PeerUnavailable, Tensors, retry_after, token_of

logger = logging.getLogger("lepton_remote")


class _Output(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] | None = None


class _Response(msgspec.Struct):
    outputs: list[_Output]


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Metadata(msgspec.Struct):
    name: str
    versions: list[str] | None = None
    platform: str = ""
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []


class _Server(msgspec.Struct):
    extensions: list[str] = []


_RESPONSE = msgspec.json.Decoder(_Response)


class HttpPeer:
    """A peer behind http:// or https://."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._url = endpoint.url
        self._connections = Connections(endpoint.url, endpoint.connections, endpoint.timeout)
        version = f"/versions/{endpoint.version}" if endpoint.version is not None else ""
        self._path = f"/v2/models/{endpoint.model}{version}"
        token = token_of(endpoint)
        self._headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        self._binary: bool | None = None

    def metadata(self) -> Metadata:
        try:
            said = msgspec.json.decode(self._get(self._path), type=_Metadata)
        except msgspec.DecodeError as error:
            raise PeerAnswerInvalid(self._url, str(error)) from None
        return Metadata(
            name=said.name,
            versions=tuple(said.versions or ()),
            platform=said.platform,
            inputs=tuple(TensorMetadata(name=t.name, datatype=t.datatype, shape=tuple(t.shape)) for t in said.inputs),
            outputs=tuple(TensorMetadata(name=t.name, datatype=t.datatype, shape=tuple(t.shape)) for t in said.outputs),
        )

    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        body, headers = self._request(inputs, outputs)
        status, answered, content = self._connections.ask("POST", f"{self._path}/infer", body, headers)
        if status != 200:
            self._refused(status, answered, content)
        try:
            head, behind = split({name.encode(): value.encode() for name, value in answered.items()}, content)
            return {output.name: _array(output, behind) for output in _RESPONSE.decode(head).outputs}
        except (msgspec.DecodeError, RequestInvalid) as error:
            raise PeerAnswerInvalid(self._url, str(error)) from None

    def close(self) -> None:
        self._connections.close()

    def _get(self, path: str) -> bytes:
        status, answered, content = self._connections.ask("GET", path, None, self._headers)
        if status != 200:
            later = retry_after(status, answered.get("retry-after"))
            raise PeerUnavailable(self._url, f"it answered {status} for {path}", later)
        return content

    def _request(self, inputs: Tensors, outputs: Sequence[str]) -> tuple[bytes, dict[str, str]]:
        if self._binary is None:
            try:
                extensions = msgspec.json.decode(self._get("/v2"), type=_Server).extensions
            except msgspec.DecodeError:
                extensions = []
            self._binary = "binary_tensor_data" in extensions or "binary_tensor_data_extension" in extensions
        headers = {**self._headers, "content-type": "application/json"}
        tensors: list[dict[str, Any]] = []
        behind: list[bytes] = []
        for name, array in inputs.items():
            tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype_of(array.dtype)}
            if self._binary:
                behind.append(encode_binary(array))
                tensor["parameters"] = {SIZE: len(behind[-1])}
            else:
                tensor["data"] = _plain(array)
            tensors.append(tensor)
        request: dict[str, Any] = {"inputs": tensors}
        if outputs:
            request["outputs"] = [{"name": name, "parameters": {"binary_data": self._binary}} for name in outputs]
        elif self._binary:
            request["parameters"] = {"binary_data_output": True}
        head = msgspec.json.encode(request)
        if self._binary:
            headers |= {HEADER.decode(): str(len(head)), "content-type": "application/octet-stream"}
        return b"".join([head, *behind]), headers

    def _refused(self, status: int, answered: dict[str, str], content: bytes) -> None:
        logger.info("%s answered %d: %s", self._url, status, content[:300])
        if status in (400, 413, 422):
            raise PeerRefused(str(status))
        raise PeerUnavailable(self._url, f"it answered {status}", retry_after(status, answered.get("retry-after")))


def _array(output: _Output, behind: BinaryPart | None) -> NDArray[Any]:
    size = (output.parameters or {}).get(SIZE)
    if size is None:
        return decode_tensor(output.name, output.datatype, output.shape, output.data)
    if behind is None:
        raise InputInvalid(output.name, f"`{SIZE}`", "binary data")
    return behind.take(output.name, output.datatype, output.shape, size)


def _plain(array: NDArray[Any]) -> list[Any]:
    """JSON has no NaN: null stands for it."""
    flat: list[Any] = array.ravel().tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [value if value == value else None for value in flat]
    if array.dtype.kind == "O":
        return [value.decode() if isinstance(value, bytes) else str(value) for value in flat]
    return flat
