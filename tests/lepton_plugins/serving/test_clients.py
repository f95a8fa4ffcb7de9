"""The clients that people have: KServe's and MLflow's own, unchanged."""

from __future__ import annotations

import asyncio

import numpy as np
import pandas as pd
import pytest

ROWS = np.array([[0.5, -1.0, 2.0, 0.25], [1.0, 0.0, -1.0, 3.0]])


def test_mlflows_scoring_client(server, deployment):
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    host, port = server.url.removeprefix("http://").split(":")
    client = ScoringServerClient(host, int(port))
    client.wait_server_ready(timeout=5)
    assert client.get_version()
    frame = pd.DataFrame(ROWS, columns=[f"x{i}" for i in range(4)]).assign(carrier=["UA", "WN"])
    answered = np.array(client.invoke(frame).get_predictions())
    for row, version in enumerate("23"):
        np.testing.assert_allclose(answered[row, 1], deployment.expected(version, ROWS[row]), rtol=1e-5)
    by_array = np.array(client.invoke(ROWS).get_predictions())
    np.testing.assert_allclose(by_array[:, 1], deployment.expected("1", ROWS), rtol=1e-5)


@pytest.fixture
def kserve(monkeypatch):
    monkeypatch.setattr("sys.argv", ["kserve"])  # Importing it parses the command line.
    return pytest.importorskip("kserve")


def test_kserves_rest_client(kserve, tensor_server, tensor_deployment):
    from kserve.inference_client import InferenceRESTClient, RESTConfig

    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    url = tensor_server.url
    x = kserve.InferInput("X", [2, 4], "FP32", ROWS.astype(np.float32).ravel().tolist())
    carrier = kserve.InferInput("carrier", [2], "BYTES", ["UA", "WN"])

    async def talk():
        assert await client.is_server_ready(url)
        assert await client.is_server_live(url)
        assert await client.is_model_ready(url, "flights")
        request = kserve.InferRequest(model_name="flights", infer_inputs=[x, carrier], request_id="mine")
        return await client.infer(url, request, model_name="flights")

    response = asyncio.run(talk())
    assert response.model_name == "flights"
    assert response.outputs[0].parameters["lepton_versions"] == "2,3"  # It drops model_version.
    assert response.id == "mine"
    answered = response.outputs[0].as_numpy()
    for row, version in enumerate("23"):
        np.testing.assert_allclose(answered[row, 1], tensor_deployment.expected(version, ROWS[row]), rtol=1e-5)


def test_kserves_rest_client_on_v1(kserve, tensor_server, tensor_deployment):
    from kserve.inference_client import InferenceRESTClient, RESTConfig

    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    body = {"instances": [{"X": ROWS[0].tolist(), "carrier": "UA"}]}
    answered = asyncio.run(client.infer(tensor_server.url, body, model_name="flights"))
    np.testing.assert_allclose(answered["predictions"][0][1], tensor_deployment.expected("2", ROWS[0]), rtol=1e-5)
