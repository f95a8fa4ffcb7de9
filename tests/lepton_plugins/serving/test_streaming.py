"""Answers in parts, of a real pyfunc's predict_stream."""

from __future__ import annotations

import json
import time

import mlflow.pyfunc
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from lepton_plugins.records.signature import Field

from .streams import CHAT, ask, decisions, events, routed

TELLER = """
import time
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Teller(PythonModel):
    def predict(self, context, model_input, params=None):
        return [str(text).upper() if params["loud"] else str(text) for text in model_input["prompt"]]

    def predict_stream(self, context, model_input, params=None):
        if params["loud"]:
            yield "LOUD"
        row = model_input if isinstance(model_input, dict) else model_input.iloc[0]
        if row["prompt"] == "broken":
            raise RuntimeError("/secret/path")
        for number, word in enumerate(row["prompt"].split()):
            if word == "breaks":
                raise RuntimeError("/secret/path")
            if word == "sleeps":
                time.sleep(3)
            yield {"word": word, "number": number} if word == "mapped" else word

set_model(Teller())
"""


OTHER = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Other(PythonModel):
    def predict(self, context, model_input, params=None):
        return [str(text) for text in model_input["prompt"]]

    def predict_stream(self, context, model_input, params=None):
        yield "the"
        yield "other"

set_model(Other())
"""


WHOLE = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Whole(PythonModel):
    def predict(self, context, model_input, params=None):
        return [str(text) for text in model_input["prompt"]]

set_model(Whole())
"""


@pytest.fixture(scope="module")
def tellers(tmp_path_factory, start_server):
    """Three pyfuncs, of which the third gives whole answers; the second is the fallback."""
    home = tmp_path_factory.mktemp("tellers")
    schema = Schema([ColSpec(DataType.string, "prompt")])
    loud = ParamSchema([ParamSpec("loud", DataType.boolean, False)])
    signature = ModelSignature(schema, Schema([ColSpec(DataType.string)]), loud)
    for name, code in (("first", TELLER), ("second", OTHER), ("third", WHOLE)):
        file = home / f"{name}.py"
        file.write_text(code)
        mlflow.pyfunc.save_model(home / name, python_model=str(file), signature=signature, pip_requirements=[])
    inputs = (Field(name="prompt", dtype="str"), Field(name="loud", dtype="bool", required=False))
    folders = [home / "first", home / "second", home / "third"]
    path = routed(home / "deployment", folders, inputs, "who", {"fallback": "2"})
    with start_server(path, home, decisions=str(home / "log"), limits={"part_time": 1.5}) as server:
        yield server, str(home / "log")


def test_a_pyfunc_streams_through_with_version_and_decision_in_the_headers(tellers):
    server, log = tellers
    path = "/v2/models/teller/generate_stream"
    with server.client() as client:
        body = {"id": "mine", "prompt": "once upon mapped time", "who": "1"}
        response = client.post(path, json=body)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["x-lepton-version"] == "1"
        assert response.headers["x-lepton-policy"] == "segment_best"
        said = events(response.text)
        assert [event.get("text_output", event.get("output")) for event in said] == [
            "once",
            "upon",
            {"word": "mapped", "number": 2},
            "time",
        ]
        assert {(event["model_name"], event["model_version"], event["id"]) for event in said} == {
            ("teller", "1", "mine")
        }
        # The protocol's own name for the only input; the version by policy, path or header.
        by_policy = client.post(path, json={"text_input": "a b", "who": "2"})
        assert by_policy.headers["x-lepton-version"] == "2"
        assert [event["text_output"] for event in events(by_policy.text)] == ["the", "other"]
        by_path = client.post("/v2/models/teller/versions/2/generate_stream", json={"prompt": "a b"})
        by_header = client.post(path, json={"prompt": "a b"}, headers={"x-lepton-version": "2"})
        assert (by_path.headers["x-lepton-version"], by_header.headers["x-lepton-version"]) == ("2", "2")
    logged = {decision.id: decision for decision in decisions(log, 4)}
    made = logged[response.headers["x-lepton-decision"]]
    assert (made.chosen, made.served, made.segment, made.context) == ("1", "1", "1", {"who": "1"})
    assert sum(decision.reason == "forced" for decision in logged.values()) == 2


def test_another_version_answers_only_before_the_first_part(tellers):
    server, log = tellers
    path = "/v2/models/teller/generate_stream"
    with server.client() as client:
        before = client.post(path, json={"prompt": "broken", "who": "1"})
        assert before.headers["x-lepton-version"] == "2"
        assert [event["text_output"] for event in events(before.text)] == ["the", "other"]
        whole = client.post(path, json={"prompt": "a", "who": "3"})
        assert whole.headers["x-lepton-version"] == "2"
        amid = client.post(path, json={"prompt": "it breaks off", "who": "1"})
        assert amid.headers["x-lepton-version"] == "1"
        first, last = amid.text.strip().split("\n\n")
        assert json.loads(first[6:])["text_output"] == "it"
        assert last.startswith("event: error\ndata: ")
        assert json.loads(last.partition("data: ")[2])["code"] == "internal_error"
        assert "secret" not in amid.text
        assert "Traceback" not in amid.text
        slow = client.post(path, json={"prompt": "it sleeps long", "who": "1"})
        assert events(slow.text)[-1]["code"] == "stream_too_slow"
        late = client.post(path, json={"prompt": "sleeps", "who": "1"})
        assert (late.status_code, late.json()["code"]) == (504, "stream_too_slow")
        time.sleep(1.6)
        shown = client.get("/metrics").text
        assert 'code="504"' in shown
    causes = [decision.fallback for decision in decisions(log, 4) if decision.fallback]
    assert sorted(causes) == ["model_failed", "streaming_unavailable"]


def test_parameters_reach_the_version_that_answers(tellers):
    server, _ = tellers
    with server.client() as client:
        said = {"dataframe_records": [{"prompt": "a"}, {"prompt": "b"}]}
        for params, expected in ((None, ["a", "b"]), ({}, ["a", "b"]), ({"loud": True}, ["A", "B"])):
            assert client.post("/invocations", json={**said, "params": params}).json()["predictions"] == expected
        mixed = {"dataframe_records": [{"prompt": "a", "loud": True}, {"prompt": "b", "loud": False}]}
        assert client.post("/invocations", json=mixed).json()["predictions"] == ["A", "b"]
        for params, field in (
            ({"loud": 3}, "loud"),
            ({"prompt": "b"}, "prompt"),
            ({"quiet": 1}, "quiet"),
            ([1], "params"),
        ):
            refused = client.post("/invocations", json={**said, "params": params})
            assert (refused.status_code, refused.json()["field"]) == (400, field), refused.text
        twice = client.post("/invocations", json={**mixed, "params": {"loud": True}})
        assert (twice.status_code, twice.json()["field"]) == (400, "loud")
        body = {"prompt": "a b", "who": "1", "parameters": {"loud": True}}
        streamed = client.post("/v2/models/teller/generate_stream", json=body)
        assert [event["text_output"] for event in events(streamed.text)] == ["LOUD", "a", "b"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"who": "1"}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "a", "other": 1}, "other"),
        ({"prompt": "a", "parameters": {"temperature": 1}}, "temperature"),
        ({"prompt": "a", "id": 5}, "id"),
        ([], None),
    ],
)
def test_what_a_request_must_be(tellers, body, field):
    server, _ = tellers
    with server.client() as client:
        response = client.post("/v2/models/teller/generate_stream", json=body)
        assert (response.status_code, response.json().get("field")) == (400, field), response.text
        assert ask(client, "hello").json()["code"] == "streaming_unavailable"
        assert client.post("/v2/models/other/generate_stream", json={"prompt": "a"}).status_code == 404


def test_a_deployment_that_gives_whole_answers_says_so(client):
    for path, body in (
        ("/v2/models/flights/generate_stream", {"x0": 1.0}),
        (CHAT, {"model": "flights", "messages": []}),
    ):
        response = client.post(path, json=body)
        assert (response.status_code, response.json()["code"]) == (400, "streaming_unavailable")
    unknown = client.post(CHAT, json={"model": "gpt", "messages": []})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")
    assert client.post(CHAT, json={"model": "flights"}).json()["field"] == "messages"
