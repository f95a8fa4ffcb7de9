"""What a server says of its model, as the Open Inference Protocol has it: it follows from the plan alone.

The protocol has no place for the parameters that a model takes, and its `inputs` aren't one: clients send all of those.
They are where MLServer has a model's `parameters` (https://github.com/SeldonIO/MLServer/blob/master/openapi/dataplane.yaml),
each as a tensor's metadata.
"""

from __future__ import annotations

from typing import Any

from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.inputs import numpy_dtype
from lepton_plugins.serving.datatypes import datatype_of


def model_metadata(plan: DeploymentPlan, version: str | None = None) -> dict[str, Any]:
    """Of the router, or of one of its versions."""
    arm = plan.arm(version) if version is not None else None
    signature = (arm.signature if arm is not None else None) or plan.signature
    inputs = [
        {"name": field.name, "datatype": datatype_of(numpy_dtype(field)), "shape": list(field.shape)}
        for field in signature.inputs
        if not field.parameter
    ]
    parameters = {
        field.name: {"datatype": datatype_of(numpy_dtype(field)), "shape": list(field.shape[1:])}
        for field in signature.parameters
    }
    told = {"parameters": parameters} if parameters else {}
    return {
        "name": plan.model,
        "versions": [item.version for item in plan.arms] if version is None else [version],
        "platform": "lepton",
        "inputs": inputs,
        "outputs": _outputs(plan),
        **told,
    }


def output_names(plan: DeploymentPlan) -> tuple[str, ...]:
    """What a client may ask for; of probabilities also the most probable class."""
    return ("proba", "label") if plan.output == "proba" and plan.classes else (plan.output,)


def _outputs(plan: DeploymentPlan) -> list[dict[str, Any]]:
    classes = len(plan.classes) or -1
    known: dict[str, dict[str, Any]] = {
        "proba": {"name": "proba", "datatype": "FP64", "shape": [-1, classes]},
        "label": {"name": "label", "datatype": "BYTES", "shape": [-1]},
        "score": {"name": "score", "datatype": "FP64", "shape": [-1]},
        "value": {"name": "value", "datatype": "FP64", "shape": [-1]},
    }
    return [known[name] for name in output_names(plan)]
