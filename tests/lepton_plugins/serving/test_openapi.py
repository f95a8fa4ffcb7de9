"""The OpenAPI document: complete, and held by the server when schemathesis drives every route from it."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from lepton_plugins.serving.routes import ROUTES

CHECKS = [not_a_server_error, response_schema_conformance, content_type_conformance]


@pytest.fixture(scope="module")
def document(server):
    return httpx.get(f"{server.url}/openapi.json").json()


def test_every_route_is_in_the_document(document):
    assert document["openapi"] == "3.1.0"
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == {(route.method, route.path) for route in ROUTES}
    infer = document["paths"]["/v2/models/{model}/versions/{version}/infer"]["post"]
    names = {parameter["name"]: parameter["schema"] for parameter in infer["parameters"]}
    assert names["model"] == {"enum": ["flights"]}
    assert names["version"] == {"enum": ["1", "2", "3", "v1", "v2", "v3"]}
    assert infer["security"]
    assert all(operation["summary"] for methods in document["paths"].values() for operation in methods.values())


def test_answers_are_as_documented(server):
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    driven = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=15, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def holds(case):
            response = case.call()
            case.validate_response(response, checks=CHECKS)
            assert str(response.status_code) in ("200", "400", "404", "415", "422"), response.text

        holds()
        driven.add((operation.method.upper(), operation.path))
    # The document's own address is where it was read from.
    assert driven == {(route.method, route.path) for route in ROUTES} - {("GET", "/openapi.json")}
