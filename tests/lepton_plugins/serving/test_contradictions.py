"""One thing said in two places of a request: both the same, or a refusal that names both."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from lepton_plugins.errors import Contradiction
from lepton_plugins.routing.router import Router
from lepton_plugins.serving.call import Call
from lepton_plugins.serving.grpc_messages import SERVICE, message
from lepton_plugins.serving.reply import Reply
from lepton_plugins.serving.served import Served
from lepton_plugins.serving.settings import ServingSettings
from lepton_plugins.serving.state import ServerState
from lepton_plugins.serving.v1 import predict

INFER = "/v2/models/flights/infer"
COLUMNS: list[dict[str, Any]] = [
    {"name": f"x{i}", "shape": [2], "datatype": "FP64", "data": [0.5, 1.0]} for i in range(4)
]
RECORD = {f"x{i}": 0.5 for i in range(4)}


def body(*carriers: str) -> dict[str, Any]:
    carrier = {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": [*carriers]}
    return {"inputs": [*COLUMNS, *([carrier] if carriers else [])]}


@pytest.fixture(scope="module")
def sticky(make_deployment, start_server, tmp_path_factory):
    """The unit's key is in the column `carrier`."""
    home = tmp_path_factory.mktemp("sticky")
    made = make_deployment(home / "flights", around={"sticky": {"key": "carrier"}})
    with start_server(made.path, home, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def grpc_address(sticky):
    return sticky.grpc_address


def refusal(answer: Any, *said: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (400, "contradiction"), answer.text
    for part in said:
        assert part in answer.json()["error"]


def test_the_version_in_the_path_and_in_a_header(sticky):
    with sticky.client() as client:
        path = "/v2/models/flights/versions/3/infer"
        for named in ("3", "v3", ""):
            answer = client.post(path, json=body(), headers={"x-lepton-version": named})
            assert answer.headers["x-lepton-version"] == "3", answer.text
        two = client.post(path, json=body(), headers={"x-lepton-version": "2"})
        refusal(two, "version '3' in the request and '2' in the header x-lepton-version")
        assert two.json()["field"] == "version"
        unknown = client.post(path, json=body(), headers={"x-lepton-version": "9"})
        assert unknown.status_code == 404
        for told in ("", "/ready"):
            path = f"/v2/models/flights/versions/3{told}"
            refusal(client.get(path, headers={"x-lepton-version": "2"}), "'3' in the request")
            assert client.get(path, headers={"x-lepton-version": "v3"}).status_code == 200


def test_a_header_given_twice(sticky):
    with sticky.client() as client:
        for name, values in (("x-lepton-version", ("2", "3")), ("x-lepton-key", ("a", "b"))):
            for path, content in ((INFER, body()), ("/invocations", {"dataframe_records": [RECORD]})):
                two = client.post(path, json=content, headers=[(name, values[0]), (name, values[1])])
                refusal(two, f"{name} '{values[0]}' in a header", f"'{values[1]}' in another")
                assert client.post(path, json=content, headers=[(name, "2"), (name, "2")]).status_code == 200
        others = [("accept", "application/json"), ("accept", "text/plain"), ("cookie", "a=1"), ("cookie", "b=2")]
        assert client.post(INFER, json=body(), headers=others).status_code == 200


def test_the_units_key_in_a_header_and_in_the_plans_column(sticky):
    with sticky.client() as client:
        for path, alike, other in (
            (INFER, body("UA", "UA"), body("UA", "WN")),
            ("/invocations", {"instances": [{**RECORD, "carrier": "UA"}]}, {"inputs": {**RECORD, "carrier": "AA"}}),
            (
                "/v1/models/flights:predict",
                {"instances": [{**RECORD, "carrier": "UA"}]},
                {"instances": [{**RECORD, "carrier": "AA"}]},
            ),
        ):
            assert client.post(path, json=alike, headers={"x-lepton-key": "UA"}).status_code == 200
            assert client.post(path, json=other).status_code == 200
            two = client.post(path, json=other, headers={"x-lepton-key": "UA"})
            refusal(two, "carrier 'UA' in the header x-lepton-key", "in the input 'carrier'")
        for key, expected in (("UA", 200), ("WN", 400)):
            asked = client.post("/lepton/explain", json={"context": {"carrier": "UA"}, "key": key})
            assert asked.status_code == expected, asked.text
        alone = client.post("/invocations", json={"instances": [RECORD]}, headers={"x-lepton-key": "UA"})
        null = {"instances": [{**RECORD, "carrier": None}]}
        assert alone.status_code == client.post("/invocations", json=null, headers={"x-lepton-key": "UA"}).status_code


def test_requests_that_are_answered_together_are_refused_one_by_one(make_deployment, tmp_path):
    made = make_deployment(tmp_path / "flights", around={"sticky": {"key": "carrier"}})
    with Router.load(made.path) as router:
        served = Served(router, ServerState(ServingSettings()))
        asked = []
        for carrier in ("UA", "WN", "UA"):
            content = json.dumps({"instances": [{**RECORD, "carrier": carrier}]}).encode()
            asked.append(predict(served, Call({"model": "flights"}, {b"x-lepton-key": b"UA"}, content)))
        first, second, third = served.predict_together(asked)
    assert isinstance(second, Contradiction)
    assert isinstance(first, Reply)
    assert isinstance(third, Reply)


def call(address: str, name: str, request: Any, *metadata: tuple[str, str]) -> Any:
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=message(f"{name}Request").SerializeToString,
            response_deserializer=message(f"{name}Response").FromString,
        )
        return method(request, metadata=metadata, timeout=20)


@pytest.mark.parametrize(
    ("version", "carrier", "metadata", "said"),
    [
        ("3", None, [("x-lepton-version", "2")], "Found version '3' in the request and '2' in the header"),
        ("", None, [("x-lepton-version", "2"), ("x-lepton-version", "3")], "x-lepton-version '2' in a header and '3'"),
        ("", "AA", [("x-lepton-key", "UA")], "carrier 'UA' in the header x-lepton-key and 'AA' in the input"),
    ],
)
def test_over_grpc(grpc_address, version, carrier, metadata, said):
    request = message("ModelInferRequest")(model_name="flights", model_version=version)
    for index in range(4):
        request.inputs.add(name=f"x{index}", datatype="FP64", shape=[1]).contents.fp64_contents.append(0.5)
    if carrier:
        request.inputs.add(name="carrier", datatype="BYTES", shape=[1]).contents.bytes_contents.append(carrier.encode())
    with pytest.raises(grpc.RpcError) as refused:
        call(grpc_address, "ModelInfer", request, *metadata)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in refused.value.details()
    assert refused.value.details().endswith("(contradiction)")
    if version:
        known = message("ModelMetadataRequest")(name="flights", version=version)
        with pytest.raises(grpc.RpcError) as refused:
            call(grpc_address, "ModelMetadata", known, *metadata)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert call(grpc_address, "ModelInfer", request, ("x-lepton-version", "v3")).model_version == "3"
