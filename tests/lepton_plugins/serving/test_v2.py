"""The Open Inference Protocol V2, over HTTP from a real server."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

ROW = [0.5, -1.0, 2.0, 0.25]


def columns(rows: list[list[float]], carriers: list[str] | None = None) -> list[dict[str, Any]]:
    n = len(rows)
    inputs = [
        {"name": f"x{i}", "shape": [n, 1], "datatype": "FP64", "data": [row[i] for row in rows]} for i in range(4)
    ]
    if carriers is not None:
        inputs.append({"name": "carrier", "shape": [n, 1], "datatype": "BYTES", "data": carriers})
    return inputs


def infer(client: httpx.Client, path: str = "/v2/models/flights/infer", **body: Any) -> httpx.Response:
    return client.post(path, json=body)


def positive(response: httpx.Response) -> np.ndarray:
    output = response.json()["outputs"][0]
    return np.array(output["data"]).reshape(output["shape"])[:, 1]


def test_metadata_routes_answer_as_the_protocol_says(client):
    assert client.get("/v2").json()["name"] == "lepton"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models").json() == {"models": ["flights"]}
    assert client.get("/v2/models/flights/ready").json() == {"name": "flights", "ready": True}
    metadata = client.get("/v2/models/flights").json()
    assert metadata["versions"] == ["1", "2", "3"]
    assert {"name": "x0", "datatype": "FP64", "shape": [-1]} in metadata["inputs"]
    assert {"name": "carrier", "datatype": "BYTES", "shape": [-1]} in metadata["inputs"]
    assert metadata["outputs"][0] == {"name": "proba", "datatype": "FP64", "shape": [-1, 2]}
    one = client.get("/v2/models/flights/versions/2").json()
    assert one["versions"] == ["2"]
    assert "carrier" not in [given["name"] for given in one["inputs"]]
    assert client.get("/v2/models/flights/versions/2/ready").json()["ready"] is True


def test_one_row_is_answered_by_its_segments_version(client, deployment):
    response = infer(client, id="mine", inputs=columns([ROW], ["UA"]))
    assert response.status_code == 200
    body = response.json()
    assert body["id"] == "mine"
    assert body["model_name"] == "flights"
    assert body["model_version"] == response.headers["x-lepton-version"] == "2"
    assert response.headers["x-lepton-policy"] == "segment_best"
    assert response.headers["x-lepton-decision"].endswith("/0")
    assert "lepton_versions" not in body["outputs"][0].get("parameters", {})
    np.testing.assert_allclose(positive(response), deployment.expected("2", np.array([ROW])), rtol=1e-5)


def test_rows_of_one_request_are_routed_one_by_one(client, deployment):
    rows = np.random.default_rng(1).normal(size=(6, 4))
    response = infer(client, inputs=columns(rows.tolist(), ["AA", "UA", "WN", "ZZ", "UA", "AA"]))
    output = response.json()["outputs"][0]
    assert response.headers["x-lepton-version"] == response.json()["model_version"] == "mixed"
    assert output["parameters"]["lepton_versions"] == "1,2,3,1,2,1"
    assert "/" not in response.headers["x-lepton-decision"]
    for index, version in enumerate("123121"):
        np.testing.assert_allclose(positive(response)[index], deployment.expected(version, rows[index]), rtol=1e-5)


def test_a_version_in_the_path_or_the_header_answers_all(client, deployment):
    inputs = columns([ROW, ROW], ["AA", "UA"])
    by_path = infer(client, "/v2/models/flights/versions/3/infer", inputs=inputs)
    by_header = client.post("/v2/models/flights/infer", json={"inputs": inputs}, headers={"x-lepton-version": "v3"})
    for response in (by_path, by_header):
        assert response.json()["model_version"] == response.headers["x-lepton-version"] == "3"
        np.testing.assert_allclose(positive(response), deployment.expected("3", np.array([ROW, ROW])), rtol=1e-5)
    unknown = infer(client, "/v2/models/flights/versions/9/infer", inputs=inputs)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "version_not_found")


def test_requested_outputs(client):
    response = infer(
        client, inputs=columns([ROW], ["UA"]), outputs=[{"name": "label"}, {"name": "proba", "parameters": {}}]
    )
    label, proba = response.json()["outputs"]
    assert label == {"name": "label", "shape": [1], "datatype": "BYTES", "data": label["data"]}
    assert label["data"][0] == str(int(np.argmax(proba["data"])))
    unknown = infer(client, inputs=columns([ROW]), outputs=[{"name": "nope"}])
    assert unknown.status_code == 400
    assert unknown.json()["field"] == "nope"


def test_an_answer_without_an_id_has_the_decisions(client):
    for rows in (1, 1, 1, 1, 2):  # The first calls run in a thread and the next on the event loop, one by one or not.
        response = infer(client, inputs=columns([ROW] * rows))
        assert response.json()["id"] == response.headers["x-lepton-decision"]
        assert response.headers["x-lepton-decision"].endswith("/0") == (rows == 1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"parameters": {"binary_data_output": "false"}}, "binary_data_output"),
        ({"parameters": {"binary_data_output": None}}, "binary_data_output"),
        ({"outputs": [{"name": "proba", "parameters": {"binary_data": 0}}]}, "binary_data"),
    ],
)
def test_whether_an_output_is_binary_is_said_by_true_or_false(client, body, field):
    response = infer(client, inputs=columns([ROW]), **body)
    assert (response.status_code, response.json()["field"]) == (400, field)
    assert response.json()["expected"] == "true or false"


def test_a_matrix_stands_for_the_columns_that_are_not_named(client, deployment):
    matrix = {"name": "input-0", "shape": [2, 4], "datatype": "FP32", "data": [ROW, ROW]}
    carrier = {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["UA", "UA"]}
    for inputs in ([matrix, carrier], [{**matrix, "data": ROW + ROW}, carrier]):
        response = infer(client, inputs=inputs)
        np.testing.assert_allclose(positive(response), deployment.expected("2", np.array([ROW, ROW])), rtol=1e-5)
    assert infer(client, inputs=[matrix]).headers["x-lepton-version"] == "1"


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "INT32", "INT64", "UINT8", "UINT64"])
def test_numbers_of_every_datatype_are_read(tensor_server, tensor_deployment, datatype):
    data = [1, 0, 3, 2]
    with tensor_server.client() as client:
        response = infer(client, inputs=[{"name": "X", "shape": [1, 4], "datatype": datatype, "data": data}])
    assert response.status_code == 200, response.text
    np.testing.assert_allclose(positive(response), tensor_deployment.expected("1", np.array([data])), rtol=1e-3)


def test_a_null_number_is_missing_not_zero(client):
    inputs = columns([ROW])
    inputs[0]["data"] = [None]
    response = infer(client, inputs=inputs)
    # A linear model has no answer without it, and that is said and not made up.
    assert (response.status_code, response.json()["code"]) == (422, "output_invalid")
    assert response.json()["error"].startswith("Input 'x0' is null in row 0; version 1")
    assert "no finite answer" in response.json()["error"]
    assert response.json()["field"] == "x0"
    assert response.json()["expected"].startswith("a value")


def test_nested_data_of_another_shape_is_told_as_such(tensor_server):
    for data in ([[1], [2], [3], [4]], [[1, 2, 3]], [[[1, 2, 3, 4]]]):
        with tensor_server.client() as client:
            response = infer(client, inputs=[{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": data}])
        assert response.json()["error"].startswith("Input 'X': found data nested otherwise than its shape")


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        (lambda inputs: inputs.pop(1), "input_missing", "x1"),
        (lambda inputs: inputs.append({**inputs[0], "name": "x9"}), "input_unknown", "x9"),
        (lambda inputs: inputs.append(inputs[0]), "input_invalid", "x0"),
        (lambda inputs: inputs[2].update(data=["a"]), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(datatype="BYTES", data=["a"]), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(datatype="FP128"), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(shape=[1, 2], data=[1, 2]), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(shape=[2, 1], data=[1, 2]), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(shape=[1, 1], data=[1, 2]), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(shape=[-1], data=[1]), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(shape=[2**40, 0], data=[]), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(shape=[0, *[2**31] * 3], data=[]), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(datatype="INT8", data=[300]), "input_invalid", "x2"),
        (lambda inputs: inputs[2].pop("data"), "input_invalid", "x2"),
        (lambda inputs: inputs[2].update(datatype="BOOL", data=[True]), "input_invalid", "x2"),
        (lambda inputs: inputs.clear(), "request_invalid", None),
    ],
)
def test_an_input_that_does_not_fit_is_named(client, change, code, field):
    inputs = columns([ROW])
    change(inputs)
    response = infer(client, inputs=inputs)
    assert response.status_code == 400, response.text
    assert response.json()["code"] == code
    assert response.json().get("field") == field
    assert response.json()["error"]


def test_no_rows_and_unknown_models_are_errors(client):
    empty = infer(client, inputs=columns([]))
    assert (empty.status_code, empty.json()["code"]) == (400, "request_invalid")
    other = infer(client, "/v2/models/other/infer", inputs=columns([ROW]))
    assert (other.status_code, other.json()["code"]) == (404, "model_not_found")
    assert other.json()["error"] == "Found the model 'other'; this server has 'flights'."


def test_per_request_keeps_rows_together(make_deployment, start_server, tmp_path):
    made = make_deployment(tmp_path / "flights", per="request")
    with start_server(made.path, tmp_path) as server, server.client() as client:
        response = infer(client, inputs=columns([ROW] * 3, ["UA", "AA", "WN"]))
    assert response.headers["x-lepton-version"] == "2"


def test_the_same_key_gets_the_same_version_from_a_header(make_deployment, start_server, tmp_path):
    made = make_deployment(tmp_path / "flights", policy="weighted")
    with start_server(made.path, tmp_path) as server, server.client() as client:
        answered = {}
        for key in [f"customer-{i}" for i in range(30)] * 2:
            response = client.post(
                "/v2/models/flights/infer", json={"inputs": columns([ROW])}, headers={"x-lepton-key": key}
            )
            version = response.headers["x-lepton-version"]
            assert answered.setdefault(key, version) == version
    assert len(set(answered.values())) == 3
