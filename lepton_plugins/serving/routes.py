"""Every route, with what it asks of its caller. What isn't listed here doesn't exist."""

from __future__ import annotations

from lepton_plugins.serving import control, invocations, streaming, v1, v2
from lepton_plugins.serving.access import Permission
from lepton_plugins.serving.call import Answer, Call, json_answer
from lepton_plugins.serving.openapi import document
from lepton_plugins.serving.route import JSON_MEDIA, Route
from lepton_plugins.serving.served import Served

TENSOR_MEDIA = (*JSON_MEDIA, b"application/octet-stream")


def openapi(served: Served, call: Call) -> Answer:
    """This document."""
    return json_answer(document(served, ROUTES))


PUBLIC, FORCE, ADMIN = Permission.PUBLIC, Permission.FORCE, Permission.ADMIN

ROUTES = (
    Route("GET", "/v2", PUBLIC, v2.server),
    Route("GET", "/v2/health/live", PUBLIC, v2.live),
    Route("GET", "/v2/health/ready", PUBLIC, v2.ready),
    Route("GET", "/v2/models", PUBLIC, v2.models),
    Route("GET", "/v2/models/{model}", PUBLIC, v2.model),
    Route("GET", "/v2/models/{model}/ready", PUBLIC, v2.model_ready),
    Route("POST", "/v2/models/{model}/infer", PUBLIC, v2.infer, long=True, predicts=True, media=TENSOR_MEDIA),
    Route(
        "POST",
        "/v2/models/{model}/generate_stream",
        PUBLIC,
        streaming.generate_stream,
        long=True,
        predicts=True,
        streams=True,
    ),
    Route("GET", "/v2/models/{model}/versions/{version}", FORCE, v2.model),
    Route("GET", "/v2/models/{model}/versions/{version}/ready", FORCE, v2.model_ready),
    Route(
        "POST",
        "/v2/models/{model}/versions/{version}/infer",
        FORCE,
        v2.infer,
        long=True,
        predicts=True,
        media=TENSOR_MEDIA,
    ),
    Route(
        "POST",
        "/v2/models/{model}/versions/{version}/generate_stream",
        FORCE,
        streaming.generate_stream,
        long=True,
        predicts=True,
        streams=True,
    ),
    Route("POST", "/v1/chat/completions", PUBLIC, streaming.chat, long=True, predicts=True, streams=True),
    Route("GET", "/v1/models", PUBLIC, v1.models),
    Route("GET", "/v1/models/{model}", PUBLIC, v1.model),
    Route("POST", "/v1/models/{model}:predict", PUBLIC, v1.predict, long=True, predicts=True),
    Route("GET", "/ping", PUBLIC, invocations.ping),
    Route("GET", "/health", PUBLIC, invocations.ping),
    Route("GET", "/version", PUBLIC, invocations.version),
    Route(
        "POST", "/invocations", PUBLIC, invocations.invoke, long=True, predicts=True, media=(*JSON_MEDIA, b"text/csv")
    ),
    Route("GET", "/openapi.json", PUBLIC, openapi, long=True),
    Route("POST", "/lepton/feedback", ADMIN, control.feedback, long=True),
    Route("POST", "/lepton/explain", ADMIN, control.explain, long=True),
    Route("GET", "/lepton/plan", ADMIN, control.plan, long=True),
    Route("GET", "/metrics", PUBLIC, control.metrics, long=True),
    # A host such as BentoML keeps /metrics for its own.
    Route("GET", "/lepton/metrics", PUBLIC, control.metrics, long=True),
)
