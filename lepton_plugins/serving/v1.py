"""KServe's V1 protocol. Source: https://kserve.github.io/website "V1 Inference Protocol" (after TensorFlow Serving).

It leaves further keys to the server: `parameters` beside the rows are as in V2. Vertex AI, which speaks the same form
(https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints/predict), calls them so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lepton_plugins.errors import RequestInvalid
from lepton_plugins.serving.call import Answer, Asked, Call, json_answer
from lepton_plugins.serving.payload import decode
from lepton_plugins.serving.reply import Reply
from lepton_plugins.serving.served import Served
from lepton_plugins.serving.tables import read_inputs, read_instances

_OBJECT = msgspec.json.Decoder(dict[str, Any])


def models(served: Served, call: Call) -> Answer:
    """The model that is served."""
    return json_answer({"models": [served.model]})


def model(served: Served, call: Call) -> Answer:
    """Whether the model answers."""
    served.check_model(call.params["model"])
    return json_answer({"name": served.model, "ready": True})


def predict(served: Served, call: Call) -> Asked:
    """Answer rows or columns, each row by the version that the plan chooses for it."""
    served.check_model(call.params["model"])
    body = decode(_OBJECT, call.body)
    if ("instances" in body) == ("inputs" in body):
        raise RequestInvalid("The body has both or neither of them", expected="`instances` or `inputs`")
    if "instances" in body:
        columns, rows = read_instances(served.reader, body["instances"])
    else:
        columns, rows = read_inputs(served.reader, body["inputs"])
    if "parameters" in body:
        columns = served.reader.with_own_parameters(body["parameters"], columns, rows)
    return Asked(call, columns, rows, Reply.predictions)
