"""The application inside other applications, as BentoML hosts it, and without a lifespan."""

from __future__ import annotations

import asyncio

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from lepton_plugins.serving.app import create_app
from lepton_plugins.serving.settings import ServingSettings

ROW = {"x0": 0.5, "x1": -1.0, "x2": 2.0, "x3": 0.25, "carrier": "UA"}


def ask(outer, inner, *requests):
    """The answers of the application `outer` while `inner` is started."""

    async def talk():
        async with (
            inner.router.lifespan_context(inner),
            httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://localhost") as client,
        ):
            return [await client.request(method, path, json=body) for method, path, body in requests]

    return asyncio.run(talk())


def test_it_is_a_starlette_that_takes_middleware(deployment):
    app = create_app(deployment.path)
    assert isinstance(app, Starlette)
    app.add_middleware(GZipMiddleware, minimum_size=1)
    (answer,) = ask(app, app, ("POST", "/invocations", {"dataframe_records": [ROW]}))
    assert answer.status_code == 200
    assert answer.headers["content-encoding"] == "gzip"


def test_it_answers_below_a_mount(deployment):
    inner = create_app(deployment.path, ServingSettings())
    outer = Starlette(routes=[Mount("/models/a", app=inner)], middleware=[Middleware(GZipMiddleware)])
    ready, predicted, outside = ask(
        outer,
        inner,
        ("GET", "/models/a/v2/health/ready", None),
        ("POST", "/models/a/invocations", {"dataframe_records": [ROW]}),
        ("GET", "/v2/health/ready", None),
    )
    assert ready.json() == {"ready": True}
    assert predicted.headers["x-lepton-version"] == "2"
    assert outside.status_code == 404


def test_before_its_lifespan_it_says_that_it_is_not_ready(deployment):
    app = create_app(deployment.path)

    async def talk():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get("/v2/health/ready")

    answer = asyncio.run(talk())
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_two_applications_share_the_processes_metrics(deployment, tensor_deployment):
    first, second = create_app(deployment.path), create_app(tensor_deployment.path)

    async def talk():
        async with (
            first.router.lifespan_context(first),
            second.router.lifespan_context(second),
            httpx.AsyncClient(transport=httpx.ASGITransport(first), base_url="http://localhost") as client,
        ):
            await client.post("/invocations", json={"dataframe_records": [ROW]})
            return (await client.get("/metrics")).text

    text = asyncio.run(talk())
    assert text.count("lepton_plan_info{") == 2
    assert 'lepton_requests_total{code="200",model="flights",role="challenger",version="2"} 1.0' in text or (
        'lepton_requests_total{model="flights",version="2",role="challenger",code="200"} 1.0' in text
    )
