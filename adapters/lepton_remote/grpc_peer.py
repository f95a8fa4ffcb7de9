"""The Open Inference Protocol over gRPC, from the client's side. Tensors travel as raw bytes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import grpc
from numpy.typing import NDArray

from lepton_plugins.errors import RequestInvalid
from lepton_plugins.serving.binary import decode_binary, encode_binary
from lepton_plugins.serving.datatypes import datatype_of
from lepton_plugins.serving.grpc_messages import SERVICE, message
from lepton_plugins.serving.grpc_service import typed_tensor
from lepton_remote.endpoint import Endpoint, Metadata, TensorMetadata
from lepton_remote.peer import PeerAnswerInvalid, PeerRefused, PeerTimedOut, PeerUnavailable, Tensors, token_of

logger = logging.getLogger("lepton_remote")

_THE_ROWS_FAULT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)


class GrpcPeer:
    """A peer behind grpc:// or grpcs://. gRPC itself sends a call again where no peer has seen it, and no other."""

    def __init__(self, endpoint: Endpoint) -> None:
        scheme, _, address = endpoint.url.rstrip("/").partition("://")
        self._url = endpoint.url
        self._model, self._version = endpoint.model, endpoint.version or ""
        self._timeout = endpoint.timeout
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        if scheme == "grpcs":
            self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        token = token_of(endpoint)
        self._sent = (("authorization", f"Bearer {token}"),) if token is not None else ()
        self._infer = self._call("ModelInfer")
        self._metadata = self._call("ModelMetadata")

    def metadata(self) -> Metadata:
        said = self._ask(self._metadata, message("ModelMetadataRequest")(name=self._model, version=self._version))
        tensors = [
            tuple(TensorMetadata(name=t.name, datatype=t.datatype, shape=tuple(t.shape)) for t in part)
            for part in (said.inputs, said.outputs)
        ]
        return Metadata(
            name=said.name,
            versions=tuple(said.versions),
            platform=said.platform,
            inputs=tensors[0],
            outputs=tensors[1],
        )

    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        request = message("ModelInferRequest")(model_name=self._model, model_version=self._version)
        for name, array in inputs.items():
            request.inputs.add(name=name, datatype=datatype_of(array.dtype), shape=array.shape)
            request.raw_input_contents.append(encode_binary(array))
        for name in outputs:
            request.outputs.add(name=name)
        answer = self._ask(self._infer, request)
        raws = answer.raw_output_contents
        try:
            return {
                output.name: decode_binary(output.name, output.datatype, list(output.shape), memoryview(raws[index]))
                if raws
                else typed_tensor(output.name, output.datatype, list(output.shape), output.contents)
                for index, output in enumerate(answer.outputs)
            }
        except (RequestInvalid, IndexError) as error:
            raise PeerAnswerInvalid(self._url, str(error)) from None

    def close(self) -> None:
        self._channel.close()

    def _call(self, name: str) -> Any:
        return self._channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=message(f"{name}Request").SerializeToString,
            response_deserializer=message(f"{name}Response").FromString,
        )

    def _ask(self, call: Any, request: Any) -> Any:
        try:
            return call(request, timeout=self._timeout, metadata=self._sent)
        except grpc.RpcError as error:
            code = error.code()
            logger.info("%s answered %s: %s", self._url, code.name, error.details())
            if code in _THE_ROWS_FAULT:
                raise PeerRefused(code.name) from None
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise PeerTimedOut(self._url, self._timeout) from None
            raise PeerUnavailable(self._url, f"it answered {code.name}") from None
