"""Parameters of a pyfunc's signature by every protocol: the model gets what MLflow's own server hands it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any

import grpc
import httpx
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from lepton_plugins.evaluation.features import model_inputs
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.loading import find_backend
from lepton_plugins.routing.moments import moment_text
from lepton_plugins.routing.router import Router
from lepton_plugins.serving.call import Call
from lepton_plugins.serving.grpc_messages import SERVICE, message
from lepton_plugins.serving.invocations import invoke
from lepton_plugins.serving.served import Served
from lepton_plugins.serving.settings import ServingSettings
from lepton_plugins.serving.state import ServerState
from lepton_plugins.serving.v1 import predict
from lepton_plugins.serving.v2 import infer

from .streams import routed

TELLS = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Tells(PythonModel):
    def predict(self, context, model_input, params=None):
        told = repr(sorted(params.items()))
        return [f"{x} {told}" for x in model_input["x"]]

set_model(Tells())
"""

DAY, NOON = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, 30)
TAKEN = ParamSchema(
    [
        ParamSpec("temperature", DataType.float, 0.5),
        ParamSpec("top", DataType.integer, 3),
        ParamSpec("exact", DataType.boolean, False),
        ParamSpec("mode", DataType.string, "plain"),
        ParamSpec("since", DataType.datetime, DAY),
        ParamSpec("weights", DataType.double, [1.0, 2.0], (-1,)),
        ParamSpec("words", DataType.string, ["a"], (-1,)),
        ParamSpec("days", DataType.datetime, [DAY], (-1,)),
    ]
)
#: What clients send with every request, and is no parameter of the model's.
OTHERS = {"priority": 1, "timeout": 5000, "sequence_id": "7", "content_type": "pd", "nested": {"a": [1]}}

#: As JSON in MLflow's protocol.
GIVEN: list[dict[str, Any]] = [
    {},
    {"temperature": 0.1},
    {"temperature": 1, "top": 2**40},
    {"exact": True, "mode": "[1, 2]"},
    {"since": "2024-03-01"},
    {"since": "2024-03-01T10:00:00"},
    {"since": "2024-03-01T10:00:00.5+02:00"},
    {"weights": [0.25, 3, 1e300], "words": ["ü", "2"]},
    {"weights": [], "words": [], "days": []},
    {"days": ["2024-03-01", "2024-03-01T10:00"]},
    {"temperature": None, "top": None, "exact": None, "mode": None, "since": None},
]
#: What each of them has in text, where a parameter is a scalar; and in gRPC's original message, which has no double.
WRONG: list[tuple[str, Any]] = [
    ("temperature", "warm"),
    ("temperature", [0.5]),
    ("top", 2.5),
    ("top", "many"),
    ("exact", 1),
    ("mode", 3),
    ("since", 20240301),
    ("since", "yesterday"),
    ("since", "2024-02-30"),
    ("weights", 0.5),
    ("weights", ["a"]),
    ("weights", [[1.0]]),
    ("words", [1]),
    ("words", "no list"),
    ("days", "2024-03-01"),
    ("days", ["2024-13-01"]),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model's own folder; a copy of it is served."""
    home = tmp_path_factory.mktemp("tells")
    (home / "tells.py").write_text(TELLS)
    signature = ModelSignature(Schema([ColSpec(DataType.double, "x")]), Schema([ColSpec(DataType.string)]), TAKEN)
    for name in ("own", "first", "second"):
        mlflow.pyfunc.save_model(
            home / name, python_model=str(home / "tells.py"), signature=signature, pip_requirements=[]
        )
    return home


@pytest.fixture(scope="module")
def deployment(model):
    inputs = find_backend(model / "first")[1].signature.inputs
    around = {"sticky": {"key": "who"}}
    return routed(model / "deployment", [model / "first", model / "second"], inputs, "who", around)


@pytest.fixture(scope="module")
def server(deployment, model, start_server):
    with start_server(deployment, model, grpc_port=0) as started:
        yield started


@pytest.fixture(scope="module")
def grpc_address(server):
    return server.grpc_address


@pytest.fixture(scope="module")
def expected(model):
    """What MLflow's own scoring server answers to each of GIVEN."""
    from mlflow.pyfunc.scoring_server import init

    app = init(mlflow.pyfunc.load_model(str(model / "own")))

    async def ask() -> list[list[str]]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = []
            for params in GIVEN:
                body = {"dataframe_records": [{"x": 1.0}, {"x": 2.0}], "params": params}
                answer = await client.post("/invocations", json=body)
                assert answer.status_code == 200, answer.text
                answers.append(answer.json()["predictions"])
            return answers

    return asyncio.run(ask())


def with_defaults(params: dict[str, Any]) -> dict[str, Any]:
    """Null leaves a version its own default; MLflow hands it the null."""
    return {name: value for name, value in params.items() if value is not None}


def as_text(params: dict[str, Any]) -> dict[str, Any]:
    """Lists as the protocol can carry them: in text."""
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in params.items()}


def infer_body(params: dict[str, Any]) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.0, 2.0]}
    return {"inputs": [tensor], "parameters": params}


def test_each_protocol_hands_over_what_mlflows_own_server_does(server, expected):
    records, plain = [{"x": 1.0}, {"x": 2.0}], expected[0]
    with server.client() as client:
        for params, own in zip(GIVEN, expected, strict=True):
            own = plain if None in params.values() else own
            answers = [
                client.post("/invocations", json={"dataframe_records": records, "params": params}),
                client.post("/v1/models/teller:predict", json={"instances": [[1.0], [2.0]], "parameters": params}),
            ]
            for given in (params, as_text(params)):
                answers.append(client.post("/v2/models/teller/infer", json=infer_body({**given, **OTHERS})))
                path = "/v2/models/teller/versions/2/infer"
                answers.append(client.post(path, json=infer_body(given)))
            for answer in answers:
                assert answer.status_code == 200, (params, answer.text)
                told = answer.json()
                assert (told["predictions"] if "predictions" in told else told["outputs"][0]["data"]) == own, params


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_does_not_fit_is_refused_alike(server, grpc_address, name, value):
    with server.client() as client:
        mlflows = client.post("/invocations", json={"instances": [[1.0]], "params": {name: value}})
        assert (mlflows.status_code, mlflows.json()["code"], mlflows.json()["field"]) == (400, "input_invalid", name)
        for path, body in (
            ("/v2/models/teller/infer", {**infer_body({name: value, **OTHERS})}),
            ("/v1/models/teller:predict", {"instances": [[1.0]], "parameters": {name: value}}),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code == 400, answer.text
            assert answer.json() == mlflows.json()
    with pytest.raises(grpc.RpcError) as refused:
        grpc_infer(grpc_address, as_text({name: value}))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"Input {name!r}" in refused.value.details()


def grpc_infer(address: str, params: dict[str, Any], metadata: Any = (), **fields: Any) -> Any:
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    request = message("ModelInferRequest")(model_name="teller", **fields)
    for name, value in params.items():
        if type(value) in kinds:
            setattr(request.parameters[name], kinds[type(value)], value)
        else:
            request.parameters[name].SetInParent()
    request.inputs.add(name="x", datatype="FP64", shape=[2]).contents.fp64_contents.extend([1.0, 2.0])
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=request.__class__.SerializeToString,
            response_deserializer=message("ModelInferResponse").FromString,
        )
        return method(request, metadata=metadata, timeout=20)


def test_grpc_carries_them_in_every_type(grpc_address, expected):
    others = {"priority": 1, "sequence_id": "7", "odd": None}
    for params, own in zip(GIVEN, expected, strict=True):
        given = as_text(with_defaults(params))
        own = expected[0] if None in params.values() else own
        for form in (
            given,
            {name: json.dumps(value) if type(value) is float else value for name, value in given.items()},
        ):
            answer = grpc_infer(grpc_address, {**form, **others})
            told = [value.decode() for value in answer.outputs[0].contents.bytes_contents]
            assert told == own, params
    large = message("InferParameter")(uint64_param=7)
    request = message("ModelInferRequest")(model_name="teller", parameters={"top": large})
    assert request.parameters["top"].WhichOneof("parameter_choice") == "uint64_param"


@pytest.fixture
def kserve(monkeypatch):
    monkeypatch.setattr("sys.argv", ["kserve"])  # Importing it parses the command line.
    return pytest.importorskip("kserve")


def test_kserves_clients(kserve, server, grpc_address, expected):
    from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig

    params = {**as_text(GIVEN[7]), "priority": 3}
    tensor = kserve.InferInput("x", [2], "FP64", [1.0, 2.0])

    async def talk():
        request = kserve.InferRequest("teller", [tensor], parameters=params)
        rest = InferenceRESTClient(RESTConfig(protocol="v2"))
        by_rest = await rest.infer(server.url, request, model_name="teller")
        client = InferenceGRPCClient(grpc_address)
        by_grpc = await client.infer(kserve.InferRequest("teller", [tensor], parameters=params))
        await client.close()
        return by_rest, by_grpc

    by_rest, by_grpc = asyncio.run(talk())
    assert by_rest.outputs[0].data == expected[7]
    assert [value.decode() for value in by_grpc.outputs[0].data] == expected[7]


def test_requests_of_other_parameters_are_not_answered_by_one_call(deployment):
    own = [
        {"top": 1},
        {"top": 2},
        {},
        {"top": 1},
        {"weights": [1.0]},
        {"weights": [1.0, 2.0, 3.0]},
        {"weights": [2.0]},
        {"temperature": 0.25, "days": ["2024-03-01"]},
    ]
    with Router.load(deployment) as router:
        served = Served(router, ServerState(ServingSettings()))
        asked = []
        for number, params in enumerate(own):
            tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [float(number)]}
            content = json.dumps({"inputs": [tensor], "parameters": params}).encode()
            asked.append(infer(served, Call({"model": "teller"}, {}, content)))
        for replies in (
            served.predict_together(asked),
            [served.predict(one.call, one.columns, one.rows) for one in asked],
        ):
            for number, (params, reply) in enumerate(zip(own, replies, strict=True)):
                (told,) = reply.values
                assert told.startswith(f"{float(number)} ")
                for name in ("top", "weights"):
                    value = params.get(name, {"top": 3, "weights": [1.0, 2.0]}[name])
                    assert f"('{name}', {value!r})" in told, (params, told)


def test_given_twice_or_as_no_object(server):
    with server.client() as client:
        inputs = [
            {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]},
            {"name": "top", "shape": [1], "datatype": "INT64", "data": [4]},
        ]
        as_input = client.post("/v2/models/teller/infer", json={"inputs": inputs})
        assert "('top', 4)" in as_input.json()["outputs"][0]["data"][0]
        twice = client.post("/v2/models/teller/infer", json={"inputs": inputs, "parameters": {"top": 4}})
        assert (twice.status_code, twice.json()["field"]) == (400, "top")
        assert "in the parameters and among the inputs" in twice.json()["error"]
        odd = client.post("/v1/models/teller:predict", json={"instances": [[1.0]], "parameters": [1]})
        assert (odd.status_code, odd.json()["field"]) == (400, "parameters")
        # As in MLflow's protocol a sticky key, or any input that may be left out, is no parameter of V2's.
        other = client.post("/v2/models/teller/infer", json=infer_body({"who": "2"}))
        assert other.headers["x-lepton-version"] == "1"


def test_metadata_and_openapi_say_what_is_taken(server, grpc_address):
    with server.client() as client:
        for path in ("/v2/models/teller", "/v2/models/teller/versions/2"):
            said = client.get(path).json()
            assert [item["name"] for item in said["inputs"]][:1] == ["x"]
            told = said["parameters"]
            assert not {item["name"] for item in said["inputs"]} & set(told)
            assert list(told) == [spec.name for spec in TAKEN]
            assert told["temperature"] == {"datatype": "FP64", "shape": []}
            assert told["days"] == {"datatype": "BYTES", "shape": [-1]}
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    own = schemas["Invocation"]["properties"]["params"]["properties"]
    assert own["weights"] == {"type": "array", "items": {"type": "number"}}
    assert own["top"] == {"type": "integer"}
    for name in ("InferRequest", "Instances"):
        assert list(schemas[name]["properties"]["parameters"]["properties"]) == list(own)
    with grpc.insecure_channel(grpc_address) as channel:
        method = channel.unary_unary(
            f"/{SERVICE}/ModelMetadata",
            request_serializer=message("ModelMetadataRequest").SerializeToString,
            response_deserializer=message("ModelMetadataResponse").FromString,
        )
        assert method(message("ModelMetadataRequest")(name="teller"), timeout=20).name == "teller"


def test_a_router_before_it_passes_them_on(server, grpc_address, expected):
    from lepton_remote.endpoint import Endpoint, Metadata
    from lepton_remote.model import RemoteModel
    from lepton_remote.opening import open_peer

    for url in (server.url, f"grpc://{grpc_address}"):
        blank = Endpoint(url=url, model="teller", version="2", metadata=Metadata(name="teller"))
        peer = open_peer(blank)
        remote = RemoteModel(blank.model_copy(update={"metadata": peer.metadata()}))
        peer.close()
        columns = {
            "x": np.array([1.0, 2.0]),
            "weights": np.array([[0.25, 3, 1e300]] * 2),
            "words": np.array([["ü", "2"]] * 2, dtype=object),
        }
        assert remote.predict(columns, "label").tolist() == expected[7]
        moment = {"x": columns["x"], "since": np.array(["2024-03-01"] * 2, dtype=object)}
        assert remote.predict(moment, "label").tolist() == expected[4]
        remote.close()


def test_in_kserves_own_server(kserve, deployment, expected, monkeypatch):
    from kserve.errors import InvalidInput

    from lepton_kserve.model import RouterModel

    monkeypatch.setenv("LEPTON_TOKEN", "a-token-of-enough-length")
    model = RouterModel(deployment, "teller")
    holder = {"authorization": "Bearer a-token-of-enough-length"}
    tensor = kserve.InferInput("x", [2], "FP64", [1.0, 2.0])
    params = {**as_text(GIVEN[7]), **OTHERS, "nested": "x"}

    def ask(payload: Any, **headers: str) -> Any:
        return asyncio.run(model.predict(payload, {**holder, **headers}))

    plain = kserve.InferRequest("teller", [tensor], parameters=params)
    over_grpc = kserve.InferRequest.from_grpc(plain.to_grpc())
    for request in (plain, over_grpc):
        said = ask(request).outputs[0].as_numpy().tolist()
        assert [value.decode() if isinstance(value, bytes) else value for value in said] == expected[7]
    by_v1 = ask({"instances": [[1.0], [2.0]], "parameters": GIVEN[7]})
    assert by_v1["predictions"] == expected[7]
    with pytest.raises(InvalidInput, match="Input 'top'"):
        ask({"instances": [[1.0]], "parameters": {"top": "many"}})
    named = kserve.InferRequest("teller", [tensor], model_version="2")
    assert ask(named).model_version == "2"
    with pytest.raises(InvalidInput, match="version '2' in the request and '1' in the header"):
        ask(named, **{"x-lepton-version": "1"})
    model.stop()


def test_behind_mlflows_interface(deployment, expected):
    from mlflow.pyfunc.model import PythonModelContext

    from lepton_mlflow.router_model import RouterModel
    from lepton_mlflow.router_signature import router_signature

    model = RouterModel()
    model.load_context(PythonModelContext({"deployment": str(deployment)}, {}))
    assert model.router is not None
    signature = ModelSignature.from_dict(router_signature(model.router.plan).to_dict())
    assert signature.params is not None
    specs = {spec.name: spec for spec in signature.params}
    rows = pd.DataFrame({"x": [1.0, 2.0]})
    for params, own in zip(GIVEN, expected, strict=True):
        given = {name: ParamSpec.validate_param_spec(value, specs[name]) for name, value in params.items()}
        # As MLflow fills in what a request leaves out.
        answered = model.predict(None, rows, {name: spec.default for name, spec in specs.items()} | given)
        assert answered.tolist() == (expected[0] if None in params.values() else own), params
    model.router.close()


def test_dates_in_every_form():
    field = next(field for field in _moments() if field.name == "since")
    assert moment_text(field, np.datetime64("2024-03-01T10:00", "ns")) == "2024-03-01T10:00:00"
    assert moment_text(field, np.datetime64("NaT")) is None
    assert moment_text(field, DAY) == "2024-02-29"
    assert moment_text(field, NOON.replace(tzinfo=dt.UTC)) == "2024-02-29T12:30:00"


def _moments() -> Any:
    from lepton_plugins.records.signature import Field

    return [Field(name="since", dtype="datetime64[ns]", required=False, parameter=True)]


MATRIX = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Weighs(PythonModel):
    def predict(self, context, model_input, params=None):
        weights = params["weights"]
        return [repr(sum(w * float(x) for w, x in zip(weights, row))) + params["unit"] for row in model_input]

set_model(Weighs())
"""


def test_a_model_of_a_tensor(tmp_path):
    from lepton_mlflow.router_model import RouterModel
    from lepton_mlflow.router_signature import router_signature

    (tmp_path / "weighs.py").write_text(MATRIX)
    taken = ParamSchema(
        [ParamSpec("weights", DataType.double, [1.0, 1.0], (-1,)), ParamSpec("unit", DataType.string, "kg")]
    )
    shape = Schema([TensorSpec(np.dtype("float64"), (-1, 2))])
    signature = ModelSignature(shape, Schema([ColSpec(DataType.string)]), taken)
    mlflow.pyfunc.save_model(
        tmp_path / "m", python_model=str(tmp_path / "weighs.py"), signature=signature, pip_requirements=[]
    )
    inspected = find_backend(tmp_path / "m")[1].signature
    assert (inspected.layout, [field.name for field in inspected.plain]) == ("tensors", ["input"])
    path = routed(tmp_path / "deployment", [tmp_path / "m"], inspected.inputs, "who", {}, layout="tensors")
    rows, params = [[1.0, 2.0], [3.0, 4.0]], {"weights": [10.0, 1.0], "unit": "g"}
    tensor = {"name": "input", "shape": [2, 2], "datatype": "FP64", "data": rows}
    with Router.load(path) as router:
        served = Served(router, ServerState(ServingSettings()))
        for given, expected in (({}, ["3.0kg", "7.0kg"]), (params, ["12.0g", "34.0g"])):
            for route, body in (
                (infer, {"inputs": [tensor], "parameters": given}),
                (invoke, {"inputs": {"input": rows}, "params": given}),
                (predict, {"inputs": {"input": rows}, "parameters": given}),
            ):
                asked = route(served, Call({"model": "teller"}, {}, json.dumps(body).encode()))
                assert served.predict(asked.call, asked.columns, asked.rows).values.tolist() == expected
        specs = router_signature(router.plan)
        assert specs.params is not None
        assert [spec.name for spec in specs.params] == ["lepton_decisions", "weights", "unit"]
        behind = RouterModel()
        behind.router = router
        assert behind.predict(None, {"input": np.array(rows)}, params).tolist() == ["12.0g", "34.0g"]
        plan = router.plan
    # Evaluated on a table, a version of one matrix takes the table's columns, which fill it.
    filled = model_inputs(pd.DataFrame({"a": [1.0], "b": [2.0]}), inspected, "1", ()).signature
    assert filled.input_names == ("a", "b", "weights", "unit")
    arms = tuple(arm.model_copy(update={"signature": filled}) for arm in plan.arms)
    write_plan(plan.model_copy(update={"arms": arms, "signature": filled}), {}, path)
    with Router.load(path) as router:
        served = Served(router, ServerState(ServingSettings()))
        body = {"dataframe_split": {"columns": ["a", "b"], "data": rows}, "params": params}
        asked = invoke(served, Call({}, {}, json.dumps(body).encode()))
        assert served.predict(asked.call, asked.columns, asked.rows).values.tolist() == ["12.0g", "34.0g"]
