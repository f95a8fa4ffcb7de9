"""The Open Inference Protocol over gRPC: a plain channel, and KServe's own client."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from lepton_plugins.serving.grpc_messages import SERVICE, message

ROWS = np.array([[0.5, -1.0, 2.0, 0.25], [1.0, 0.0, -1.0, 3.0]])
TOKEN = "a-token-of-enough-length"


@pytest.fixture(scope="module")
def address(tensor_deployment, start_server, tmp_path_factory) -> Iterator[str]:
    logs = tmp_path_factory.mktemp("grpc")
    with start_server(tensor_deployment.path, logs, grpc_port=0, token=TOKEN) as server:
        yield server.grpc_address


def call(address: str, name: str, request: Any, within: float = 20, **metadata: str) -> tuple[Any, dict[str, str]]:
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=message(f"{name}Request").SerializeToString,
            response_deserializer=message(f"{name}Response").FromString,
        )
        pairs = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        response, done = method.with_call(request, metadata=pairs, timeout=within)
        return response, dict(done.trailing_metadata())


def infer_request(**fields: Any) -> Any:
    request = message("ModelInferRequest")(model_name="flights", **fields)
    x = request.inputs.add(name="X", datatype="FP32", shape=[2, 4])
    x.contents.fp32_contents.extend(ROWS.ravel().tolist())
    carrier = request.inputs.add(name="carrier", datatype="BYTES", shape=[2])
    carrier.contents.bytes_contents.extend([b"UA", b"WN"])
    return request


def test_health_and_metadata(address):
    assert call(address, "ServerLive", message("ServerLiveRequest")())[0].live
    assert call(address, "ServerReady", message("ServerReadyRequest")())[0].ready
    assert call(address, "ModelReady", message("ModelReadyRequest")(name="flights"))[0].ready
    assert call(address, "ServerMetadata", message("ServerMetadataRequest")())[0].name == "lepton"
    metadata = call(address, "ModelMetadata", message("ModelMetadataRequest")(name="flights"))[0]
    assert list(metadata.versions) == ["1", "2", "3"]
    assert [(given.name, given.datatype, list(given.shape)) for given in metadata.inputs] == [
        ("X", "FP32", [-1, 4]),
        ("carrier", "BYTES", [-1]),
    ]


def test_rows_are_routed_one_by_one(address, tensor_deployment):
    response, metadata = call(address, "ModelInfer", infer_request(id="mine"))
    assert (response.model_name, response.model_version, response.id) == ("flights", "mixed", "mine")
    (output,) = response.outputs
    assert output.parameters["lepton_versions"].string_param == metadata["x-lepton-version"].replace("mixed", "2,3")
    assert metadata["x-lepton-policy"] == "segment_best"
    assert metadata["x-lepton-decision"]
    answered = np.array(output.contents.fp64_contents).reshape(2, 2)[:, 1]
    for row, version in enumerate("23"):
        np.testing.assert_allclose(answered[row], tensor_deployment.expected(version, ROWS[row]), rtol=1e-5)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_raw_tensors_are_answered_raw(address, tensor_deployment, datatype):
    request = message("ModelInferRequest")(model_name="flights")
    request.inputs.add(name="X", datatype=datatype, shape=[2, 4])
    request.raw_input_contents.append(ROWS.astype(f"<f{int(datatype[2:]) // 8}").tobytes())
    request.outputs.add(name="proba")
    request.outputs.add(name="label")
    response, _ = call(address, "ModelInfer", request)
    proba = np.frombuffer(response.raw_output_contents[0], dtype="<f8").reshape(2, 2)
    np.testing.assert_allclose(proba[:, 1], tensor_deployment.expected("1", ROWS), rtol=1e-3)
    assert response.raw_output_contents[1] == b"".join(b"\x01\0\0\0%d" % i for i in proba.argmax(axis=1))


def test_forcing_a_version_needs_the_token(address, tensor_deployment):
    bearer = {"authorization": f"Bearer {TOKEN}"}
    for fields, metadata in (({"model_version": "v3"}, {}), ({}, {"x_lepton_version": "3"})):
        with pytest.raises(grpc.RpcError) as refused:
            call(address, "ModelInfer", infer_request(**fields), **metadata)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        response, _ = call(address, "ModelInfer", infer_request(**fields), **metadata, **bearer)
        assert response.model_version == "3"
    with pytest.raises(grpc.RpcError) as refused:
        call(address, "ModelMetadata", message("ModelMetadataRequest")(name="flights", version="2"))
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda r: setattr(r, "model_name", "other"), "NOT_FOUND", "model_not_found"),
        (lambda r: setattr(r.inputs[0], "datatype", "FP16"), "INVALID_ARGUMENT", "input_invalid"),
        (lambda r: setattr(r.inputs[0], "name", "Y"), "INVALID_ARGUMENT", "input_unknown"),
        (lambda r: r.inputs[0].shape.append(2), "INVALID_ARGUMENT", "input_invalid"),
        (lambda r: r.outputs.add(name="nope"), "INVALID_ARGUMENT", "request_invalid"),
        (lambda r: r.raw_input_contents.append(b"x"), "INVALID_ARGUMENT", "request_invalid"),
        (lambda r: r.ClearField("inputs"), "INVALID_ARGUMENT", "request_invalid"),
        (lambda r: r.raw_input_contents.extend([b"x", b"y"]), "INVALID_ARGUMENT", "input_invalid"),
        (lambda r: r.inputs[0].contents.fp32_contents.__setitem__(0, np.nan), "INVALID_ARGUMENT", "output_invalid"),
    ],
)
def test_what_does_not_fit_is_told_by_its_code(address, change, status, code):
    request = infer_request()
    change(request)
    with pytest.raises(grpc.RpcError) as refused:
        call(address, "ModelInfer", request)
    assert refused.value.code().name == status
    assert refused.value.details().endswith(f"({code})")


def test_bytes_that_are_no_message_are_the_clients_fault(address):
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/ModelInfer")(b"\xff\xff\xff", timeout=20)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().endswith("(request_invalid)")


def test_versions_that_take_too_long_are_told_so(make_deployment, start_server, tmp_path):
    slow = make_deployment(
        tmp_path / "slow",
        layout="tensors",
        versions=1,
        policy="weighted",
        work={"1": 100_000},
        around={"timeout": 0.001},
    )
    with start_server(slow.path, tmp_path, grpc_port=0) as server, pytest.raises(grpc.RpcError) as refused:
        call(server.grpc_address, "ModelInfer", infer_request())
    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "timed_out" in refused.value.details()


def test_calls_that_their_client_gave_up_count(make_deployment, start_server, tmp_path):
    slow = make_deployment(
        tmp_path / "slow", layout="tensors", versions=1, policy="weighted", work={"1": 200_000}, around={"timeout": 20}
    )
    with start_server(slow.path, tmp_path, grpc_port=0) as server, server.client() as client:
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as given_up:
                call(server.grpc_address, "ModelInfer", infer_request(), within=0.05)
            assert given_up.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        until = time.monotonic() + 20
        while (counted := requests_of(client)) != (3.0, 0.0) and time.monotonic() < until:
            time.sleep(0.05)
        assert counted == (3.0, 0.0)


def requests_of(client) -> tuple[float, float]:
    """How many requests were answered, and how many are in flight."""
    lines = client.get("/metrics").text.splitlines()
    names = ("lepton_requests_total{", "lepton_requests_in_flight{")
    answered, in_flight = (sum(float(line.split()[-1]) for line in lines if line.startswith(name)) for name in names)
    return answered, in_flight


def test_a_taken_port_names_the_option(deployment):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ["--port", "0", "--grpc-port", str(taken.getsockname()[1]), "--decisions", "none"]
        command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", str(deployment.path), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith("Stop the other server, or pass another --grpc-port.")


def test_kserves_grpc_client(monkeypatch, address, tensor_deployment):
    monkeypatch.setattr("sys.argv", ["kserve"])  # Importing it parses the command line.
    kserve = pytest.importorskip("kserve")
    from kserve.inference_client import InferenceGRPCClient

    def inputs(binary: bool) -> list[Any]:
        x = kserve.InferInput("X", [2, 4], "FP32")
        x.set_data_from_numpy(ROWS.astype(np.float32), binary_data=binary)
        carrier = kserve.InferInput("carrier", [2], "BYTES")
        carrier.set_data_from_numpy(np.array(["UA", "WN"], dtype=object), binary_data=binary)
        return [x, carrier]

    async def talk():
        client = InferenceGRPCClient(url=address)
        try:
            assert await client.is_server_ready()
            assert await client.is_server_live()
            assert await client.is_model_ready("flights")
            return [
                await client.infer(kserve.InferRequest(model_name="flights", infer_inputs=inputs(binary)))
                for binary in (False, True)
            ]
        finally:
            await client.close()

    for response in asyncio.run(talk()):
        assert response.model_version == "mixed"
        answered = response.outputs[0].as_numpy()
        for row, version in enumerate("23"):
            np.testing.assert_allclose(answered[row, 1], tensor_deployment.expected(version, ROWS[row]), rtol=1e-5)


def test_the_messages_are_kserves_on_the_wire(monkeypatch):
    monkeypatch.setattr("sys.argv", ["kserve"])
    theirs = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2")

    def fields(descriptor: Any) -> dict[int, tuple[str, int]]:
        return {field.number: (field.name, field.type) for field in descriptor.fields}

    for name in ("ModelInferRequest", "ModelInferResponse", "InferTensorContents", "ModelMetadataResponse"):
        ours = message(name).DESCRIPTOR
        assert fields(ours).items() <= fields(getattr(theirs, name).DESCRIPTOR).items()
        for nested in ours.nested_types:
            other = getattr(theirs, name).DESCRIPTOR.nested_types_by_name[nested.name]
            assert fields(nested).items() <= fields(other).items()
