"""The Open Inference Protocol V2 over REST.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
and, for GET /v2/models, KServe's own server.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins import __version__
from lepton_plugins.errors import InputInvalid, RequestInvalid
from lepton_plugins.routing.inputs import numpy_dtype
from lepton_plugins.serving.call import Answer, Call, json_answer
from lepton_plugins.serving.datatypes import datatype_of, decode_tensor
from lepton_plugins.serving.payload import decode
from lepton_plugins.serving.reply import Reply
from lepton_plugins.serving.served import Served

_BINARY = ("binary_data_size", "binary_data", "binary_data_output")


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


_REQUEST = msgspec.json.Decoder(InferRequest)


def server(served: Served, call: Call) -> Answer:
    return json_answer({"name": "lepton", "version": __version__, "extensions": ["model_versions"]})


def live(served: Served, call: Call) -> Answer:
    return json_answer({"live": True})


def ready(served: Served, call: Call) -> Answer:
    return json_answer({"ready": True})


def models(served: Served, call: Call) -> Answer:
    return json_answer({"models": [served.model]})


def model(served: Served, call: Call) -> Answer:
    """Metadata of the router; of one version where the path names it."""
    served.check_model(call.params["model"])
    versions, signature = list(served.versions), served.plan.signature
    if "version" in call.params:
        version = served.version_of(call.params["version"])
        arm = served.plan.arm(version)
        versions, signature = [version], (arm.signature if arm else None) or signature
    inputs = [
        {"name": field.name, "datatype": datatype_of(numpy_dtype(field)), "shape": list(field.shape)}
        for field in signature.inputs
    ]
    return json_answer(
        {
            "name": served.model,
            "versions": versions,
            "platform": "lepton",
            "inputs": inputs,
            "outputs": _outputs_metadata(served),
        }
    )


def model_ready(served: Served, call: Call) -> Answer:
    served.check_model(call.params["model"])
    if "version" in call.params:
        served.version_of(call.params["version"])
    return json_answer({"name": served.model, "ready": True})


def infer(served: Served, call: Call) -> Answer:
    served.check_model(call.params["model"])
    request = decode(_REQUEST, call.body)
    _refuse_binary(request)
    if len(request.inputs) > served.limits.tensors:
        raise RequestInvalid(f"Found {len(request.inputs)} inputs", expected=f"at most {served.limits.tensors}")
    tensors: dict[str, NDArray[Any]] = {}
    for given in request.inputs:
        if given.name in tensors:
            raise InputInvalid(given.name, "it twice", "each input once")
        tensors[given.name] = decode_tensor(given.name, given.datatype, given.shape, given.data)
    wanted = _wanted(served, request.outputs)
    columns, rows = served.reader.tensors(tensors)
    reply = served.predict(call, columns, rows)
    return reply.answer(
        {
            "model_name": served.model,
            "model_version": reply.version,
            "id": request.id if request.id is not None else reply.block.request,
            "outputs": [_output(served, reply, name) for name in wanted],
        }
    )


def _refuse_binary(request: InferRequest) -> None:
    for parameters in (request.parameters, *(given.parameters for given in request.inputs)):
        if parameters and any(name in parameters for name in _BINARY):
            raise RequestInvalid("Found a binary tensor", expected="JSON tensors: send `data` in each input")


def _wanted(served: Served, outputs: list[OutputTensor] | None) -> list[str]:
    """The outputs to answer with: those asked for, by default the plan's own."""
    if not outputs:
        return [served.plan.output]
    known = _output_names(served)
    for output in outputs:
        if output.name not in known:
            raise RequestInvalid(
                f"Output {output.name[:100]!r} isn't one of this model", field=output.name, expected=" or ".join(known)
            )
    return [output.name for output in outputs]


def _output_names(served: Served) -> tuple[str, ...]:
    """What a client may ask for; of probabilities also the most probable class."""
    return ("proba", "label") if served.plan.output == "proba" and served.plan.classes else (served.plan.output,)


def _output(served: Served, reply: Reply, name: str) -> dict[str, Any]:
    values = reply.values
    if name != served.plan.output:
        values = np.array(served.plan.classes, dtype=object)[values.argmax(axis=1)]
    datatype = datatype_of(values.dtype)
    flat = values if values.ndim == 1 else values.ravel()
    data = flat.tolist()
    if datatype == "BYTES":
        data = [value if isinstance(value, str) else str(value) for value in data]
    output: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": datatype, "data": data}
    if reply.versions is not None:
        # Parameters are scalars by the protocol: the rows' versions in order, separated by commas.
        output["parameters"] = {"lepton_versions": ",".join(reply.versions)}
    return output


def _outputs_metadata(served: Served) -> list[dict[str, Any]]:
    classes = len(served.plan.classes) or -1
    known: dict[str, dict[str, Any]] = {
        "proba": {"name": "proba", "datatype": "FP64", "shape": [-1, classes]},
        "label": {"name": "label", "datatype": "BYTES", "shape": [-1]},
        "score": {"name": "score", "datatype": "FP64", "shape": [-1]},
        "value": {"name": "value", "datatype": "FP64", "shape": [-1]},
    }
    return [known[name] for name in _output_names(served)]
