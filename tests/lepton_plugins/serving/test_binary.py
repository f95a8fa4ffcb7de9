"""The binary tensor extension of the Open Inference Protocol, both ways, from a real server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

ROWS = np.array([[0.5, -1.0, 2.0, 0.25], [1.0, 0.0, -1.0, 3.0]])
OCTETS = "application/octet-stream"


def bytes_tensor(values: list[str]) -> bytes:
    return b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in values)


def post(server: Any, content: dict[str, Any], behind: bytes = b"", length: str | None = None, media: str = OCTETS):
    head = json.dumps(content).encode()
    headers = {"content-type": media, "inference-header-content-length": length or str(len(head))}
    with server.client() as client:
        return client.post("/v2/models/flights/infer", content=head + behind, headers=headers)


def matrix(raw: bytes, datatype: str = "FP32", **changes: Any) -> dict[str, Any]:
    given = {"name": "X", "shape": [2, 4], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    return {**given, **changes}


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "|i1", "<i4", "<i8", "|u1", "<u2"])
def test_tensors_of_numbers(tensor_server, tensor_deployment, dtype):
    rows = np.array([[1, 0, 3, 2], [5, 1, 0, 4]], dtype=dtype)
    kind = {"f": "FP", "i": "INT", "u": "UINT"}[rows.dtype.kind] + str(8 * rows.dtype.itemsize)
    response = post(tensor_server, {"inputs": [matrix(rows.tobytes(), kind)]}, rows.tobytes())
    assert response.status_code == 200, response.text
    answered = np.array(response.json()["outputs"][0]["data"]).reshape(2, 2)[:, 1]
    np.testing.assert_allclose(answered, tensor_deployment.expected("1", rows), rtol=1e-4)


def test_binary_and_json_inputs_mixed_and_outputs_both_ways(tensor_server, tensor_deployment):
    raw = ROWS.astype("<f4").tobytes()
    carriers = bytes_tensor(["UA", "WN"])
    content = {
        "inputs": [
            {"name": "carrier", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(carriers)}},
            matrix(raw),
        ],
        "outputs": [{"name": "label", "parameters": {"binary_data": True}}, {"name": "proba"}],
    }
    response = post(tensor_server, content, carriers + raw)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == OCTETS
    length = int(response.headers["inference-header-content-length"])
    said, behind = json.loads(response.content[:length]), response.content[length:]
    label, proba = said["outputs"]
    assert label["parameters"]["lepton_versions"] == "2,3"
    assert label["parameters"]["binary_data_size"] == len(behind)
    assert "data" not in label
    answered = np.array(proba["data"]).reshape(2, 2)
    assert behind == bytes_tensor([str(i) for i in answered.argmax(axis=1)])
    for row, version in enumerate("23"):
        np.testing.assert_allclose(answered[row, 1], tensor_deployment.expected(version, ROWS[row]), rtol=1e-5)


def test_every_output_binary_at_the_requests_word(tensor_server, tensor_deployment):
    inputs = [{"name": "X", "shape": [2, 4], "datatype": "FP32", "data": ROWS.ravel().tolist()}]
    body = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    with tensor_server.client() as client:
        response = client.post("/v2/models/flights/infer", json=body)
    length = int(response.headers["inference-header-content-length"])
    answered = np.frombuffer(response.content[length:], dtype="<f8").reshape(2, 2)
    np.testing.assert_allclose(answered[:, 1], tensor_deployment.expected("1", ROWS), rtol=1e-5)


RAW = ROWS.astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("inputs", "behind", "field"),
    [
        ([matrix(RAW[:-4])], RAW[:-4], "X"),
        ([matrix(RAW, shape=[3, 4])], RAW, "X"),
        ([matrix(RAW)], RAW[:-1], "X"),
        ([matrix(RAW)], RAW + b"more", None),
        ([matrix(RAW, data=[1, 2])], RAW, "X"),
        ([matrix(RAW, parameters={"binary_data_size": -1})], RAW, "X"),
        ([matrix(RAW, parameters={"binary_data_size": "32"})], RAW, "X"),
        ([matrix(RAW, "BF16")], RAW, "X"),
        ([matrix(b"\xff\xff\xff\x7f", "BYTES", shape=[1])], b"\xff\xff\xff\x7f", "X"),
        ([matrix(b"", "BYTES", shape=[2**31, 2**31])], b"", "X"),
        ([matrix(b"\x01\0\0\0\xff", "BYTES", name="carrier", shape=[1])], b"\x01\0\0\0\xff", "carrier"),
    ],
)
def test_bytes_that_do_not_fit_name_their_tensor(tensor_server, inputs, behind, field):
    response = post(tensor_server, {"inputs": inputs}, behind)
    assert response.status_code == 400, response.text
    assert response.json().get("field") == field


def test_a_length_that_is_none_is_refused(tensor_server):
    for length in ("-1", "x", "99999", "9" * 30):
        assert post(tensor_server, {"inputs": [matrix(RAW)]}, RAW, length=length).status_code == 400
    with tensor_server.client() as client:
        without = client.post("/v2/models/flights/infer", json={"inputs": [matrix(RAW)]})
    assert (without.status_code, without.json()["field"]) == (400, "X")


def test_kserves_own_client_with_binary_tensors(monkeypatch, tensor_server, tensor_deployment):
    monkeypatch.setattr("sys.argv", ["kserve"])  # Importing it parses the command line.
    kserve = pytest.importorskip("kserve")
    from kserve.inference_client import InferenceRESTClient, RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    x = kserve.InferInput("X", [2, 4], "FP32")
    x.set_data_from_numpy(ROWS.astype(np.float32), binary_data=True)
    carrier = kserve.InferInput("carrier", [2], "BYTES")
    carrier.set_data_from_numpy(np.array(["UA", "WN"], dtype=object), binary_data=True)
    request = kserve.InferRequest(
        model_name="flights",
        infer_inputs=[x, carrier],
        request_outputs=[RequestedOutput("proba", {"binary_data": True})],
    )
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    response = asyncio.run(client.infer(tensor_server.url, request, model_name="flights"))
    answered = response.outputs[0].as_numpy()
    for row, version in enumerate("23"):
        np.testing.assert_allclose(answered[row, 1], tensor_deployment.expected(version, ROWS[row]), rtol=1e-5)
