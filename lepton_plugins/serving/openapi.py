"""The OpenAPI document of what a server serves, made from its routes.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lepton_plugins import __version__
from lepton_plugins.records.signature import Field
from lepton_plugins.serving.access import Permission
from lepton_plugins.serving.datatypes import NUMPY
from lepton_plugins.serving.route import Route
from lepton_plugins.serving.served import Served

_ANY: dict[str, Any] = {}
_TEXT = {"type": "string"}
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_DECISION = {
    "type": "object",
    "required": ["decision"],
    "additionalProperties": False,
    "properties": {
        "decision": _TEXT,
        "reward": {"type": ["number", "null"]},
        "label": {"type": ["string", "number", "boolean", "null"]},
        "time": {"type": ["number", "null"]},
    },
}

_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error", "code"],
        "properties": {"error": _TEXT, "code": _TEXT, "field": _TEXT, "expected": _TEXT, "id": _TEXT},
    },
    "InferInput": {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": _TEXT,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            "datatype": {"enum": list(NUMPY)},
            "data": {"type": "array"},
            "parameters": _PARAMETERS,
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "parameters": _PARAMETERS,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/InferInput"}, "minItems": 1},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": _TEXT, "parameters": _PARAMETERS},
                },
            },
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "model_version", "id", "outputs"],
        "properties": {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "id": _TEXT,
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/InferInput"}},
        },
    },
    "Instances": {
        "type": "object",
        "oneOf": [
            {"required": ["instances"], "properties": {"instances": {"type": "array"}}},
            {"required": ["inputs"], "properties": {"inputs": {"type": ["array", "object"]}}},
        ],
    },
    "Invocation": {
        "type": "object",
        "minProperties": 1,
        "properties": {
            "dataframe_split": {
                "type": "object",
                "required": ["data"],
                "properties": {"columns": {"type": "array", "items": _TEXT}, "data": {"type": "array"}},
            },
            "dataframe_records": {"type": "array", "items": {"type": "object"}},
            "instances": {"type": "array"},
            "inputs": {"type": ["array", "object"]},
            "params": {"type": "object"},
        },
    },
    "Generation": {
        "type": "object",
        "description": "One row: the inputs by name; `text_input` for the only one that is left.",
        "properties": {"id": _TEXT, "text_input": _TEXT},
    },
    "ChatCompletion": {
        "type": "object",
        "required": ["model", "messages"],
        "properties": {
            "model": _TEXT,
            "messages": {"type": "array", "items": {"type": "object"}},
            "stream": {"type": "boolean"},
        },
    },
    "Predictions": {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}},
    "Feedback": {"oneOf": [_DECISION, {"type": "array", "items": _DECISION}]},
    "Receipt": {
        "type": "object",
        "required": ["stored", "duplicates", "unknown"],
        "properties": {
            "stored": {"type": "integer"},
            "duplicates": {"type": "integer"},
            "unknown": {"type": "array", "items": _TEXT},
        },
    },
    "Question": {
        "type": "object",
        "required": ["context"],
        "additionalProperties": False,
        "properties": {"context": {"type": "object"}, "key": {"type": ["string", "number", "null"]}},
    },
    "Object": {"type": "object"},
}

#: By path template: the request's schema and the answer's.
_BODIES = {
    "/v2/models/{model}/infer": ("InferRequest", "InferResponse"),
    "/v2/models/{model}/versions/{version}/infer": ("InferRequest", "InferResponse"),
    "/v2/models/{model}/generate_stream": ("Generation", "Object"),
    "/v2/models/{model}/versions/{version}/generate_stream": ("Generation", "Object"),
    "/v1/chat/completions": ("ChatCompletion", "Object"),
    "/v1/models/{model}:predict": ("Instances", "Predictions"),
    "/invocations": ("Invocation", "Predictions"),
    "/lepton/feedback": ("Feedback", "Receipt"),
    "/lepton/explain": ("Question", "Object"),
}

_HEADERS = {
    "x-lepton-key": "The unit's key: the same one gets the same version.",
    "x-lepton-version": "The version that must answer.",
}
_PLAIN = ("/ping", "/health", "/version", "/metrics", "/lepton/metrics")


def document(served: Served, routes: Sequence[Route]) -> dict[str, Any]:
    """The document for one model: its name and versions are the only values of their path parameters."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, served)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{served.model}, served by Lepton",
            "version": __version__,
            "description": "Open Inference Protocol V2, KServe's V1, MLflow's scoring protocol, OpenAI's, Lepton's.",
        },
        "paths": paths,
        "components": {
            "schemas": _with_parameters(served.plan.signature.parameters),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _with_parameters(fields: Sequence[Field]) -> dict[str, Any]:
    """The schemas, with what the versions take as parameters where requests name those."""
    if not fields:
        return _SCHEMAS
    own = {field.name: _value_schema(field) for field in fields}
    # By V2 and V1 a list may be text in JSON, and there are others' parameters.
    loose = {name: {"anyOf": [schema, _TEXT]} for name, schema in own.items()}
    places = {
        "InferRequest": ("parameters", {"type": "object", "properties": loose}),
        "Instances": ("parameters", {"type": "object", "properties": loose}),
        "Invocation": ("params", {"type": "object", "properties": own}),
    }
    changed = {}
    for name, (key, schema) in places.items():
        whole = _SCHEMAS[name]
        changed[name] = {**whole, "properties": {**whole.get("properties", {}), key: schema}}
    return {**_SCHEMAS, **changed}


def _value_schema(field: Field) -> dict[str, Any]:
    kind = "" if field.dtype == "str" else np.dtype(field.dtype).kind
    schema: dict[str, Any] = {"type": {"b": "boolean", "i": "integer", "f": "number"}.get(kind, "string")}
    if kind == "M":
        schema["description"] = "A date or a time by ISO 8601."
    return schema if len(field.shape) == 1 else {"type": "array", "items": schema}


def _operation(route: Route, served: Served) -> dict[str, Any]:
    asked, answered = _BODIES.get(route.path, (None, "Object"))
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method} {route.path}").strip("_").lower(),
        "summary": (route.answer.__doc__ or "").partition("\n")[0],
        "responses": {
            "200": {"description": "The answer.", "content": _content(route, answered)},
            "default": {
                "description": "Why there is none.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    known = {"model": [served.model], "version": [*served.versions, *sorted(served.labels)]}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"enum": known[name]}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.predicts:
        parameters += [
            {"name": name, "in": "header", "description": text, "schema": _TEXT} for name, text in _HEADERS.items()
        ]
    if parameters:
        operation["parameters"] = parameters
    if asked is not None:
        content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{asked}"}}}
        for media in route.media[1:]:
            content[media.decode()] = {"schema": _TEXT if media.startswith(b"text/") else _ANY}
        operation["requestBody"] = {"required": True, "content": content}
    if route.permission is not Permission.PUBLIC:
        operation["security"] = [{"token": []}, {}]
    return operation


def _content(route: Route, answered: str) -> dict[str, Any]:
    if route.path in _PLAIN:
        return {"text/plain": {"schema": _TEXT}}
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{answered}"}}}
    if route.streams:
        content["text/event-stream"] = {"schema": _TEXT}
    if b"application/octet-stream" in route.media:
        content["application/octet-stream"] = {"schema": _ANY}
    return content
