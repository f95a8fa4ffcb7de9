"""KServe's V1 and MLflow's scoring protocol, over HTTP from a real server."""

from __future__ import annotations

import numpy as np
import pytest

ROW = [0.5, -1.0, 2.0, 0.25]
NAMED = {f"x{i}": value for i, value in enumerate(ROW)}


def predictions(response):
    assert response.status_code == 200, response.text
    return np.array(response.json()["predictions"])[:, 1]


def test_v1_metadata(client):
    assert client.get("/v1/models").json() == {"models": ["flights"]}
    assert client.get("/v1/models/flights").json() == {"name": "flights", "ready": True}
    assert client.get("/v1/models/other").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{**NAMED, "carrier": "UA"}]},
        {"instances": [[*ROW, "UA"]]},
        {"inputs": {**{name: [value] for name, value in NAMED.items()}, "carrier": ["UA"]}},
        {"inputs": {**NAMED, "carrier": "UA"}},
    ],
)
def test_v1_predict_in_every_form(client, deployment, body):
    response = client.post("/v1/models/flights:predict", json=body)
    np.testing.assert_allclose(predictions(response), deployment.expected("2", np.array([ROW])), rtol=1e-5)
    assert response.headers["x-lepton-version"] == "2"


def test_v1_instances_of_a_tensor(tensor_server, tensor_deployment):
    with tensor_server.client() as client:
        response = client.post("/v1/models/flights:predict", json={"instances": [{"X": ROW}, {"X": ROW}]})
        np.testing.assert_allclose(
            predictions(response), tensor_deployment.expected("1", np.array([ROW, ROW])), rtol=1e-5
        )
        wrong = client.post("/v1/models/flights:predict", json={"instances": [{"X": ROW[:3]}]})
        assert (wrong.status_code, wrong.json()["field"]) == (400, "X")


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": [*NAMED, "carrier"], "index": [0, 1], "data": [[*ROW, "UA"], [*ROW, "UA"]]}},
        {"dataframe_records": [{**NAMED, "carrier": "UA"}] * 2},
        {"instances": [{**NAMED, "carrier": "UA"}] * 2},
        {"inputs": {**{name: [value] * 2 for name, value in NAMED.items()}, "carrier": ["UA", "UA"]}, "params": {}},
    ],
)
def test_invocations_in_every_form(client, deployment, body):
    response = client.post("/invocations", json=body)
    np.testing.assert_allclose(predictions(response), deployment.expected("2", np.array([ROW, ROW])), rtol=1e-5)


def test_invocations_takes_csv(client, deployment):
    text = "carrier,x0,x1,x2,x3\nUA,0.5,-1.0,2.0,0.25\n,0.5,-1.0,2.0,0.25\n"
    response = client.post("/invocations", content=text, headers={"content-type": "text/csv; charset=utf-8"})
    expected = [deployment.expected(version, np.array(ROW)) for version in "21"]
    np.testing.assert_allclose(predictions(response), expected, rtol=1e-5)
    short = client.post("/invocations", content="x0,x1\n1\n", headers={"content-type": "text/csv"})
    assert (short.status_code, short.json()["code"]) == (400, "request_invalid")
    text = client.post("/invocations", content="x0,x1,x2,x3\n1,a,1,1\n", headers={"content-type": "text/csv"})
    assert (text.status_code, text.json()["field"]) == (400, "x1")
    grouped = client.post("/invocations", content="x0,x1,x2,x3\n1,1_000,1,1\n", headers={"content-type": "text/csv"})
    assert (grouped.status_code, grouped.json()["field"]) == (400, "x1")


def test_mlflows_health_routes(client):
    for path in ("/ping", "/health", "/version"):
        assert client.get(path).status_code == 200
    assert client.head("/ping").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "code", "field"),
    [
        ("/invocations", {}, "request_invalid", None),
        ("/invocations", {"inputs": [], "instances": []}, "request_invalid", None),
        ("/invocations", {"dataframe_split": {"columns": ["x0"]}}, "request_invalid", "dataframe_split"),
        ("/invocations", {"dataframe_records": [NAMED, {}]}, "input_invalid", "x0"),
        ("/invocations", {"dataframe_records": [{**NAMED, "xx": 1}]}, "input_unknown", "xx"),
        ("/invocations", {"dataframe_records": [{**NAMED, "x1": "a"}]}, "input_invalid", "x1"),
        ("/invocations", {"dataframe_records": [{**NAMED, "x1": True}]}, "input_invalid", "x1"),
        ("/invocations", {"inputs": NAMED, "params": {"temperature": 1}}, "input_invalid", "temperature"),
        ("/v1/models/flights:predict", {"instances": []}, "request_invalid", None),
        ("/v1/models/flights:predict", {"instances": {"x0": 1}}, "request_invalid", "instances"),
        ("/v1/models/flights:predict", {"instances": [[1, 2]]}, "request_invalid", None),
        ("/v1/models/flights:predict", {"instances": [{"x0": 1.0}]}, "input_missing", "x1"),
    ],
)
def test_what_does_not_fit_is_named(client, path, body, code, field):
    response = client.post(path, json=body)
    assert response.status_code == 400, response.text
    assert (response.json()["code"], response.json().get("field")) == (code, field)


@pytest.mark.parametrize(
    ("value", "found"),
    [("a", "the string 'a'"), (True, "the boolean true"), ([1], "a list"), ({"b": 1}, "an object")],
)
def test_what_an_input_holds_instead_of_numbers_is_said_in_one_sentence(client, value, found):
    body = {"dataframe_records": [NAMED, {**NAMED, "x1": value}]}
    said = client.post("/invocations", json=body).json()["error"]
    assert said == f"Input 'x1': found {found} in row 1; expected numbers."


def test_pythons_nan_is_read_as_missing(client):
    body = '{"dataframe_records": [{"x0": NaN, "x1": 1.0, "x2": 1.0, "x3": 1.0}]}'
    response = client.post("/invocations", content=body, headers={"content-type": "application/json"})
    # A linear model has no answer for a missing number; the point is that the body was understood.
    assert response.json()["code"] != "request_invalid"


def test_a_number_beyond_doubles_is_no_missing_one(client):
    body = '{"dataframe_records": [{"x0": 1e999, "x1": NaN, "x2": 1.0, "x3": 1.0}]}'
    response = client.post("/invocations", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "request_invalid")
