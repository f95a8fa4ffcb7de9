"""The Open Inference Protocol V2 over REST.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
and, for GET /v2/models, KServe's own server. The protocol defines no `parameters` and leaves them to servers: those
that a version's signature names reach it, as MLServer's MLflow runtime does since
https://github.com/SeldonIO/MLServer/pull/1921; `binary_data_output` is the binary extension's; others (`priority`,
`timeout`, `content_type`) are no error.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins import __version__
from lepton_plugins.errors import InputInvalid, RequestInvalid
from lepton_plugins.serving.binary import SIZE, BinaryPart, encode_binary, split
from lepton_plugins.serving.call import Answer, Asked, Call, json_answer
from lepton_plugins.serving.datatypes import datatype_of, decode_tensor
from lepton_plugins.serving.metadata import model_metadata, output_names
from lepton_plugins.serving.payload import decode
from lepton_plugins.serving.reply import Reply
from lepton_plugins.serving.served import Served


class InputTensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] | None = None


class OutputTensor(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    inputs: list[InputTensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[OutputTensor] | None = None


EXTENSIONS = ("model_versions", "binary_tensor_data")

_REQUEST = msgspec.json.Decoder(InferRequest)


def server(served: Served, call: Call) -> Answer:
    """What this server is."""
    return json_answer({"name": "lepton", "version": __version__, "extensions": list(EXTENSIONS)})


def live(served: Served, call: Call) -> Answer:
    """Whether the process answers."""
    return json_answer({"live": True})


def ready(served: Served, call: Call) -> Answer:
    """Whether a plan is loaded."""
    return json_answer({"ready": True})


def models(served: Served, call: Call) -> Answer:
    """The model that is served."""
    return json_answer({"models": [served.model]})


def model(served: Served, call: Call) -> Answer:
    """Metadata of the router; of one version where the path names it."""
    served.check_model(call.params["model"])
    version = served.wanted(call) if "version" in call.params else None
    return json_answer(model_metadata(served.plan, version))


def model_ready(served: Served, call: Call) -> Answer:
    """Whether the model, or one version of it, answers."""
    served.check_model(call.params["model"])
    if "version" in call.params:
        served.wanted(call)
    return json_answer({"name": served.model, "ready": True})


def infer(served: Served, call: Call) -> Asked:
    """Answer tensors, each row by the version that the plan chooses for it."""
    served.check_model(call.params["model"])
    head, binary = split(call.headers, call.body)
    request = decode(_REQUEST, head)
    if len(request.inputs) > served.limits.tensors:
        raise RequestInvalid(f"Found {len(request.inputs)} inputs", expected=f"at most {served.limits.tensors}")
    tensors = _tensors(request, binary)
    wanted = wanted_outputs(served, [output.name for output in request.outputs or ()])
    asked = list(zip(wanted, _in_binary(request), strict=True))
    columns, rows = served.reader.tensors(tensors)
    if request.parameters:
        columns = served.reader.with_own_parameters(request.parameters, columns, rows)
    return Asked(call, columns, rows, partial(_answer, served, request.id, asked))


def _answer(served: Served, identity: str | None, asked: list[tuple[str, bool]], reply: Reply) -> Answer:
    behind: list[bytes] = []
    content = {
        "model_name": served.model,
        "model_version": reply.version,
        "id": identity if identity is not None else reply.decision,
        "outputs": [_output(served, reply, name, behind if binary else None) for name, binary in asked],
    }
    return reply.binary_answer(content, behind) if behind else reply.answer(content)


def _in_binary(request: InferRequest) -> list[bool]:
    """Whether each output is to be bytes behind the JSON."""
    every = _flag(request.parameters, "binary_data_output", False)
    return [_flag(output.parameters, "binary_data", every) for output in request.outputs or ()] or [every]


def _flag(parameters: dict[str, Any] | None, name: str, default: bool) -> bool:
    value = default if parameters is None else parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestInvalid(f"The parameter {name!r} is {value!r}"[:100], field=name, expected="true or false")
    return value


def _tensors(request: InferRequest, binary: BinaryPart | None) -> dict[str, NDArray[Any]]:
    """The inputs by name, each from its JSON or its part of the bytes behind it."""
    tensors: dict[str, NDArray[Any]] = {}
    for given in request.inputs:
        name = given.name
        if name in tensors:
            raise InputInvalid(name, "it twice", "each input once")
        parameters = given.parameters
        if parameters is None or SIZE not in parameters:
            tensors[name] = decode_tensor(name, given.datatype, given.shape, given.data)
            continue
        if binary is None:
            raise InputInvalid(name, f"`{SIZE}`", "the header Inference-Header-Content-Length beside it")
        if len(memoryview(given.data)):
            raise InputInvalid(name, f"both `data` and `{SIZE}`", "one of them")
        tensors[name] = binary.take(name, given.datatype, given.shape, parameters[SIZE])
    if binary is not None:
        binary.check_end()
    return tensors


def wanted_outputs(served: Served, names: list[str]) -> list[str]:
    """The outputs to answer with: those asked for, by default the plan's own."""
    if not names:
        return [served.plan.output]
    known = output_names(served.plan)
    for name in names:
        if name not in known:
            raise RequestInvalid(
                f"Output {name[:100]!r} isn't one of this model", field=name, expected=" or ".join(known)
            )
    return names


def output_values(served: Served, reply: Reply, name: str) -> NDArray[Any]:
    """An output by its name."""
    if name == served.plan.output:
        return reply.values
    named: NDArray[Any] = np.array(served.plan.classes, dtype=object)[reply.values.argmax(axis=1)]
    return named


def _output(served: Served, reply: Reply, name: str, behind: list[bytes] | None) -> dict[str, Any]:
    """An output's JSON; its values go to the bytes `behind` it where those are given."""
    values = output_values(served, reply, name)
    datatype = datatype_of(values.dtype)
    output: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": datatype}
    parameters: dict[str, Any] = {}
    if reply.versions is not None:
        # Parameters are scalars by the protocol: the rows' versions in order, separated by commas.
        parameters["lepton_versions"] = ",".join(reply.versions)
    if behind is not None:
        raw = encode_binary(values)
        parameters[SIZE] = len(raw)
        behind.append(raw)
    else:
        data = (values if values.ndim == 1 else values.ravel()).tolist()
        if datatype == "BYTES":
            data = [value if isinstance(value, str) else _said(value) for value in data]
        output["data"] = data
    if parameters:
        output["parameters"] = parameters
    return output


def _said(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
