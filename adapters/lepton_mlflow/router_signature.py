"""A router's signature as MLflow writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.signature import Field
from lepton_plugins.routing.moments import is_moment

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

#: The parameter that asks for the decision beside each answer.
DECISIONS = "lepton_decisions"

#: The default of a parameter that is a list: then each version has its own.
NO_LIST = [None]

#: numpy's names and MLflow's widest column type (`mlflow.types.DataType`) for each kind: MLflow refuses what it would
#: have to narrow, such as every double of a table for an ONNX model; the router narrows without loss, or says so.
_COLUMN_TYPES = {
    "bool": "boolean",
    "int8": "long",
    "int16": "long",
    "int32": "long",
    "uint8": "long",
    "uint16": "long",
    "int64": "long",
    "uint32": "long",
    "uint64": "long",
    "float16": "double",
    "float32": "double",
    "float64": "double",
    "str": "string",
    "bytes": "binary",
}


def router_signature(plan: DeploymentPlan) -> ModelSignature:
    """Inputs of the arms, context columns and the sticky key; MLflow drops every column that isn't in it."""
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema

    fields = list(plan.signature.inputs)
    sticky = plan.around.sticky
    if sticky is not None and sticky.key not in plan.signature.input_names:
        fields.append(Field(name=sticky.key, dtype="str", required=False))
    if plan.signature.layout == "columns":
        inputs = Schema([_column(field) for field in fields])
    else:
        # Named by Lepton where the versions' own signature doesn't name it; then MLflow takes a bare array.
        fields = [field for field in fields if not field.parameter]
        unnamed = len(fields) == 1 and fields[0].name == "input"
        inputs = Schema([_tensor(field, None if unnamed else field.name) for field in fields])
    return ModelSignature(
        inputs=inputs,
        outputs=Schema([_output(plan)]),
        params=ParamSchema([ParamSpec(DECISIONS, DataType.boolean, False), *_parameters(plan)]),
    )


def _parameters(plan: DeploymentPlan) -> list[Any]:
    """The versions' inputs that a request may leave out, or give once for all rows: a pyfunc's parameters."""
    from mlflow.types import DataType, ParamSpec

    named = {name for arm in plan.arms if arm.signature is not None for name in arm.signature.input_names}
    fields = [field for field in plan.signature.inputs if field.name in named and not field.required]
    types = ["string" if is_moment(field) else _COLUMN_TYPES.get(field.dtype, "binary") for field in fields]
    # Without a default: each version has its own. MLflow writes no date that is missing, and lists must be lists.
    return [
        ParamSpec(
            field.name,
            DataType[kind],
            None if len(field.shape) == 1 else NO_LIST,
            (-1,) * (len(field.shape) - 1) or None,
        )
        for field, kind in zip(fields, types, strict=True)
        if kind != "binary" and (field.parameter or plan.signature.layout == "columns")
    ]


def _column(field: Field) -> Any:
    from mlflow.types import ColSpec
    from mlflow.types.schema import AnyType

    kind: Any = "datetime" if field.dtype.startswith("datetime64") else _COLUMN_TYPES.get(field.dtype)
    if len(field.shape) > 1:
        kind = None
    return ColSpec(kind or AnyType(), name=field.name, required=field.required)


def _tensor(field: Field, name: str | None) -> Any:
    from mlflow.types import TensorSpec

    # MLflow takes str arrays for objects, not the other way round.
    dtype = np.dtype("object" if field.dtype in ("str", "bytes") else field.dtype)
    return TensorSpec(dtype, field.shape, name)


def _output(plan: DeploymentPlan) -> Any:
    from mlflow.types import TensorSpec

    if plan.output == "label":
        return TensorSpec(np.dtype("object"), (-1,))
    return TensorSpec(np.dtype("float64"), (-1, len(plan.classes) or -1) if plan.output == "proba" else (-1,))
