"""The Open Inference Protocol over gRPC, on a port of its own beside HTTP.

Needs grpcio (`pip install 'lepton-plugins[grpc]'`); imported only where a port is asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import msgspec
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from lepton_plugins import __version__
from lepton_plugins.errors import AddressTaken, InputInvalid, NotReady, RequestInvalid
from lepton_plugins.serving import v2
from lepton_plugins.serving.binary import decode_binary, encode_binary
from lepton_plugins.serving.call import Answer, Call, headers_by_name
from lepton_plugins.serving.datatypes import datatype_of, numpy_of, tensor_size
from lepton_plugins.serving.failure import error_answer
from lepton_plugins.serving.grpc_messages import SERVICE, message
from lepton_plugins.serving.reply import Reply
from lepton_plugins.serving.served import Served

if TYPE_CHECKING:
    from lepton_plugins.serving.app import ServingApp
    from lepton_plugins.serving.settings import ServingSettings

_Handler = Callable[[Any, Any], Awaitable[Any]]

#: Where a datatype's values stand in InferTensorContents; FP16 has no place there, only raw.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

_OUTPUT = message("ModelInferResponse.InferOutputTensor")
_RESPONSE = message("ModelInferResponse")


class GrpcService:
    """Answers the protocol's six calls from what an application serves."""

    def __init__(self, app: ServingApp) -> None:
        self._app = app
        self._server: Any = None
        self.address = ""

    async def start(self, settings: ServingSettings, port: int) -> None:
        """Listen where HTTP does; AddressTaken where the port is in use."""
        # Beside a Unix socket: as local as that is.
        host = "127.0.0.1" if settings.host.startswith("/") else settings.host
        # Without workers several processes on one port would share it silently.
        options = [
            ("grpc.max_receive_message_length", settings.limits.body),
            ("grpc.so_reuseport", int(settings.workers > 1)),
        ]
        server = grpc.aio.server(options=options)
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                partial(_read, handler, message(f"{name}Request")),
                response_serializer=message(f"{name}Response").SerializeToString,
            )
            for name, handler in self._calls().items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        name = f"[{host}]" if ":" in host else host
        try:
            if settings.certificate is None:
                port = server.add_insecure_port(f"{name}:{port}")
            else:
                pair = ((settings.key or settings.certificate).read_bytes(), settings.certificate.read_bytes())
                port = server.add_secure_port(f"{name}:{port}", grpc.ssl_server_credentials([pair]))
        except RuntimeError:
            raise AddressTaken(host, port, "the gRPC port is in use or can't be bound", "--grpc-port") from None
        self.address = f"{name}:{port}"
        await server.start()
        self._server = server

    async def stop(self, seconds: float) -> None:
        """No new calls; those being answered have `seconds` to end."""
        if self._server is not None:
            await self._server.stop(seconds)

    def _calls(self) -> dict[str, _Handler]:
        return {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }

    async def _live(self, request: Any, context: Any) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def _ready(self, request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._app.served is not None)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        await self._told(context, v2.model_ready, request)
        return message("ModelReadyResponse")(ready=True)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        return message("ServerMetadataResponse")(name="lepton", version=__version__, extensions=v2.EXTENSIONS)

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        content = msgspec.json.decode(await self._told(context, v2.model, request))
        content.pop("parameters", None)  # The message has no place for them.
        return message("ModelMetadataResponse")(**content)

    async def _told(self, context: Any, route: Callable[[Served, Call], Answer], request: Any) -> bytes:
        """What a route of HTTP says of a model; the version as in its path."""
        try:
            if self._app.served is None:
                raise NotReady
            call = _call(request.name, request.version, context)
            self._app.check_forcing(self._app.served, call)
            answer = route(self._app.served, call)
        except Exception as error:
            answer = error_answer(error)
            await _abort(context, answer)
        return answer.body

    async def _infer(self, request: Any, context: Any) -> Any:
        try:
            call = _call(request.model_name, request.model_version, context)
        except RequestInvalid as error:
            await _abort(context, error_answer(error))
        made: list[Any] = []
        kind = (SERVICE, request.ByteSize().bit_length())
        answer = await self._app.respond(kind, partial(_answer, request, made), call)
        if not made:
            await _abort(context, answer)
        context.set_trailing_metadata(
            [(name.decode(), value.decode()) for name, value in answer.headers if name.startswith(b"x-lepton")]
        )
        return made[0]


async def _read(handler: _Handler, kind: Any, request: bytes, context: Any) -> Any:
    """A call with its message read here: what grpcio can't read, it answers as a fault of the server."""
    try:
        read = kind.FromString(request)
    except DecodeError:
        found = f"The bytes are no {kind.DESCRIPTOR.full_name}"
        await _abort(context, error_answer(RequestInvalid(found, expected="the protocol's message")))
    return await handler(read, context)


def _call(model: str, version: str, context: Any) -> Call:
    given = [
        (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
        for name, value in context.invocation_metadata()
    ]
    params = {"model": model, "version": version} if version else {"model": model}
    return Call(params, headers_by_name(given), b"")


async def _abort(context: Any, answer: Answer) -> None:
    said = msgspec.json.decode(answer.body)
    await context.abort(_STATUS.get(answer.status, grpc.StatusCode.INTERNAL), f"{said['error']} ({said['code']})")


def _answer(request: Any, made: list[Any], served: Served, call: Call) -> Answer:
    """ModelInfer: the message goes to `made`, what counts and is logged as over HTTP."""
    served.check_model(request.model_name)
    if len(request.inputs) > served.limits.tensors:
        raise RequestInvalid(f"Found {len(request.inputs)} inputs", expected=f"at most {served.limits.tensors}")
    wanted = v2.wanted_outputs(served, [output.name for output in request.outputs])
    columns, rows = served.reader.tensors(_tensors(request))
    if request.parameters:
        columns = served.reader.with_own_parameters(parameter_values(request.parameters), columns, rows)
    reply = served.predict(call, columns, rows)
    # An answer comes as the question did.
    raw: list[bytes] | None = [] if request.raw_input_contents else None
    outputs = [_output(served, reply, name, raw) for name in wanted]
    made.append(
        _RESPONSE(
            model_name=served.model,
            model_version=reply.version,
            id=request.id or reply.decision,
            outputs=outputs,
            raw_output_contents=raw or (),
        )
    )
    return Answer(b"", reply.headers, 200, reply)


def parameter_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Each InferParameter's value, whichever its type; None where it has none."""
    chosen = {name: parameter.WhichOneof("parameter_choice") for name, parameter in parameters.items()}
    return {name: getattr(parameters[name], kind) if kind else None for name, kind in chosen.items()}


def _tensors(request: Any) -> dict[str, NDArray[Any]]:
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise RequestInvalid(f"Found {len(raws)} raw_input_contents", expected=f"{len(request.inputs)}, one an input")
    tensors: dict[str, NDArray[Any]] = {}
    for index, given in enumerate(request.inputs):
        name, shape = given.name, list(given.shape)
        if name in tensors:
            raise InputInvalid(name, "it twice", "each input once")
        if raws:
            if given.contents.ByteSize():
                raise InputInvalid(name, "both `contents` and raw_input_contents", "one of them")
            tensors[name] = decode_binary(name, given.datatype, shape, memoryview(raws[index]))
        else:
            tensors[name] = typed_tensor(name, given.datatype, shape, given.contents)
    return tensors


def typed_tensor(name: str, datatype: str, shape: list[int], contents: Any) -> NDArray[Any]:
    """A tensor whose values stand in their datatype's list."""
    dtype = numpy_of(name, datatype)
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InputInvalid(name, f"{datatype} values", "raw_input_contents: the protocol has no list of them")
    values = getattr(contents, field)
    size = tensor_size(name, shape)
    if len(values) != size:
        raise InputInvalid(name, f"{len(values)} values in {field}", f"{size} for the shape {shape}")
    try:
        if dtype.kind == "O":
            return np.fromiter(values, dtype=object, count=size).reshape(shape)
        return np.array(values, dtype=dtype).reshape(shape)
    except OverflowError:
        raise InputInvalid(name, f"a value out of the range of {datatype}", f"{datatype} values") from None


def _output(served: Served, reply: Reply, name: str, raw: list[bytes] | None) -> Any:
    values = v2.output_values(served, reply, name)
    datatype = datatype_of(values.dtype)
    output = _OUTPUT(name=name, datatype=datatype, shape=values.shape)
    if reply.versions is not None:
        output.parameters["lepton_versions"].string_param = ",".join(reply.versions)
    if raw is not None:
        raw.append(encode_binary(values))
    else:
        flat = values.ravel().tolist()
        if datatype == "BYTES":
            flat = [value if isinstance(value, bytes) else str(value).encode() for value in flat]
        getattr(output.contents, _CONTENTS[datatype]).extend(flat)
    return output
