"""Answers in parts: of a real pyfunc's predict_stream, and of a real server that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import mlflow.pyfunc
import pytest
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema

from lepton_files.jsonl import LogFiles
from lepton_plugins.canonical import digest_tree
from lepton_plugins.records.around import Around
from lepton_plugins.records.plan import Allocation, Arm, DeploymentPlan, PolicyDocument
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.records.spec import PlanSpec, PolicySpec
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.loading import find_backend
from lepton_remote.backend import describe

PEER = """
import asyncio, json, socket, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

seen = {"begun": 0, "sent": 0, "stopped": 0, "model": "", "fields": []}

def event(text):
    said = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
    return f"data: {json.dumps(said)}\\n\\n"

async def parts(said):
    try:
        if said == "silent":
            await asyncio.sleep(30)
        for number in range(1000 if said == "endless" else 3):
            yield event(f"{said} {number} ")
            seen["sent"] += 1
            if said == "dies":
                raise RuntimeError("/secret/path of the peer")
            await asyncio.sleep(30 if said == "hangs" else 0.02)
        yield "data: [DONE]\\n\\n"
    except asyncio.CancelledError:
        seen["stopped"] += 1
        raise

async def chat(request):
    body = await request.json()
    said = body["messages"][-1]["content"]
    seen.update(begun=seen["begun"] + 1, model=body["model"], fields=sorted(body))
    if said == "refused":
        return JSONResponse({"error": "/secret/path"}, 400)
    if said == "busy":
        return JSONResponse({"error": "busy"}, 503)
    if not body.get("stream"):
        return JSONResponse({"choices": [{"index": 0, "message": {"role": "assistant", "content": f"{said}!"}}]})
    return StreamingResponse(parts(said), media_type="text/event-stream")

async def models(request):
    return JSONResponse({"object": "list", "data": [{"id": "acme/chat", "object": "model", "owned_by": "acme"}]})

async def told(request):
    return JSONResponse(seen)

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(f"peer at http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
routes = [Route("/v1/chat/completions", chat, methods=["POST"]), Route("/v1/models", models), Route("/told", told)]
uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="critical")).run(sockets=[listener])
"""

CHAT = "/v1/chat/completions"


TELLER = """
import time
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Teller(PythonModel):
    def predict(self, context, model_input, params=None):
        return [str(text) for text in model_input["prompt"]]

    def predict_stream(self, context, model_input, params=None):
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


def routed(path: Path, folders: Sequence[Path], inputs: tuple[Field, ...], by: str, around: Mapping[str, Any]) -> Path:
    """A deployment of these versions' files: where `by` is "1" the first answers, and so on; else the first."""
    arms = []
    for number, folder in enumerate(folders, 1):
        digest = digest_tree(folder)
        target = path / "models" / digest.removeprefix("sha256:")
        target.parent.mkdir(parents=True, exist_ok=True)
        backend, inspection = find_backend(folder)
        folder.rename(target)
        arms.append(
            Arm(
                version=str(number),
                uri=f"models:/teller/{number}",
                source="/somewhere",
                artifact_digest=digest,
                framework=inspection.format,
                backend=backend,
                format=inspection.format,
                trust="pickle" if inspection.carries_code else None,
                signature=inspection.signature,
                share=1 / len(folders),
            )
        )
    values = [str(number) for number in range(1, len(arms) + 1)]
    cells = [
        {"value": [value], "rows": 10, "slots": [[value, 65536]], "candidates": {}, "reason": f"best in {value}"}
        for value in values
    ]
    params = {"by": [by]}
    document = PolicyDocument(kind="segment_best", params=params, features=(by,), document={"by": [by], "cells": cells})
    plan = DeploymentPlan(
        model="teller",
        salt="00112233445566778899aabbccddeeff",
        output="label",
        signature=Signature(inputs=(*inputs, Field(name=by, dtype="str", required=False))),
        arms=tuple(arms),
        default="1",
        policy=document,
        around=Around.model_validate(around),
        allocation=Allocation(solver="fixed", status="fixed"),
        spec=PlanSpec(model="teller", policy=PolicySpec(kind="segment_best", params=params)),
    )
    write_plan(plan, {}, path)
    return path


@pytest.fixture(scope="module")
def tellers(tmp_path_factory, start_server):
    """Three pyfuncs, of which the third gives whole answers; the second is the fallback."""
    home = tmp_path_factory.mktemp("tellers")
    schema = Schema([ColSpec(DataType.string, "prompt")])
    signature = ModelSignature(schema, Schema([ColSpec(DataType.string)]))
    for name, code in (("first", TELLER), ("second", OTHER), ("third", WHOLE)):
        file = home / f"{name}.py"
        file.write_text(code)
        mlflow.pyfunc.save_model(home / name, python_model=str(file), signature=signature, pip_requirements=[])
    prompt = Field(name="prompt", dtype="str")
    folders = [home / "first", home / "second", home / "third"]
    path = routed(home / "deployment", folders, (prompt,), "who", {"fallback": "2"})
    with start_server(path, home, decisions=str(home / "log"), limits={"part_time": 1.5}) as server:
        yield server, str(home / "log")


@pytest.fixture(scope="module")
def chats(tmp_path_factory, start_server):
    """Two versions behind a peer that speaks OpenAI's chat, and the address of the peer."""
    home = tmp_path_factory.mktemp("chats")
    peer = subprocess.Popen([sys.executable, "-c", PEER], stdout=subprocess.PIPE, text=True)
    assert peer.stdout is not None
    try:
        url = peer.stdout.readline().split(" at ")[1].strip()
        away = home / "away"
        folders = [
            describe(url, "acme/chat", home / "one", protocol="openai", timeout=1.5),
            describe(url, "acme/chat", away, protocol="openai", timeout=1.6),
        ]
        content = json.loads((away / "remote.json").read_text())
        (away / "remote.json").write_text(json.dumps({**content, "url": "http://127.0.0.1:9"}))
        messages = Field(name="messages", dtype="object")
        path = routed(home / "deployment", folders, (messages,), "user", {})
        with start_server(path, home, decisions=str(home / "log")) as server:
            yield server, url, str(home / "log")
    finally:
        peer.terminate()
        peer.wait(20)
        peer.stdout.close()


def events(text: str) -> list[Any]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def decisions(log: str, number: int) -> list[Any]:
    """The log's decisions, once there are so many."""
    for _ in range(50):
        found = [row for block in LogFiles(log).blocks() for row in block.rows()]
        if len(found) >= number:
            return found
        time.sleep(0.1)
    return found


def ask(client: httpx.Client, said: str, **fields: Any) -> httpx.Response:
    body = {"model": "teller", "messages": [{"role": "user", "content": said}], "stream": True, **fields}
    return client.post(CHAT, json=body)


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


def test_a_chat_passes_through_as_the_peer_sends_it(chats):
    server, url, log = chats
    with server.client() as client:
        started = time.monotonic()
        body = {"model": "teller", "messages": [{"role": "user", "content": "hello"}], "stream": True, "user": "1"}
        with client.stream("POST", CHAT, json={**body, "temperature": 0.5}) as response:
            assert response.headers["x-lepton-version"] == "1"
            assert response.headers["content-type"].startswith("text/event-stream")
            parts = list(response.iter_raw())
        text = b"".join(parts).decode()
        assert len(parts) >= 3, "events must not wait for each other"
        assert time.monotonic() - started < 5
        assert [event["choices"][0]["delta"]["content"] for event in events(text)] == [
            "hello 0 ",
            "hello 1 ",
            "hello 2 ",
        ]
        assert text.endswith("data: [DONE]\n\n")
        told = httpx.get(f"{url}/told").json()
        assert (told["model"], told["fields"]) == (
            "acme/chat",
            ["messages", "model", "stream", "temperature", "user"],
        )
        whole = ask(client, "hello", stream=False)
        assert whole.headers["content-type"] == "application/json"
        assert whole.json()["choices"][0]["message"]["content"] == "hello!"
        rows = {"dataframe_records": [{"messages": [{"role": "user", "content": said}]} for said in ("a", "b")]}
        assert client.post("/invocations", json=rows).json() == {"predictions": ["a!", "b!"]}
        away = ask(client, "hello", user="2")
        assert (away.status_code, away.headers["x-lepton-version"]) == (200, "1")
    logged = {decision.id: decision for decision in decisions(log, 5)}
    assert logged[response.headers["x-lepton-decision"]].served == "1"
    fallen = logged[away.headers["x-lepton-decision"]]
    assert (fallen.chosen, fallen.served, fallen.fallback) == ("2", "1", "peer_unavailable")


def test_what_goes_wrong_at_a_chats_peer(chats):
    server, _, _ = chats
    with server.client() as client:
        refused = ask(client, "refused")
        assert (refused.status_code, refused.json()["code"]) == (400, "peer_refused")
        busy = ask(client, "busy")
        assert (busy.status_code, busy.json()["code"]) == (500, "model_failed")
        silent = ask(client, "silent")
        assert silent.status_code == 500
        for said, code in (("dies", "peer_answer_invalid"), ("hangs", "timed_out")):
            amid = ask(client, said)
            assert amid.status_code == 200
            assert events(amid.text)[0]["choices"][0]["delta"]["content"] == f"{said} 0 "
            assert "event: error\n" in amid.text
            assert events(amid.text)[-1]["code"] == code
            assert "[DONE]" not in amid.text
        for answer in (refused, busy, silent, amid):
            assert "secret" not in answer.text
            assert "127.0.0.1" not in answer.text


def test_a_client_that_goes_away_ends_the_peers_stream(chats):
    server, url, _ = chats
    before = httpx.get(f"{url}/told").json()
    body = {"model": "teller", "messages": [{"role": "user", "content": "endless"}], "stream": True}
    with server.client() as client, client.stream("POST", CHAT, json=body) as response:
        next(response.iter_raw())
    hanging = httpx.Timeout(5, read=0.3)
    silent = {**body, "messages": [{"role": "user", "content": "silent"}]}
    with server.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json=silent, timeout=hanging)  # Before the first part, too.
    deadline = time.monotonic() + 1.2
    while (told := httpx.get(f"{url}/told").json())["stopped"] < before["stopped"] + 2:
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
    assert told["sent"] - before["sent"] < 200


def test_a_server_that_is_ended_amid_streams_ends(chats, start_server, tmp_path_factory):
    server, _, _ = chats
    home = tmp_path_factory.mktemp("ended")
    with start_server(server.errors.parent / "deployment", home) as second, second.client() as client:
        body = {"model": "teller", "messages": [{"role": "user", "content": "hello"}], "stream": True}
        with client.stream("POST", CHAT, json=body) as response:
            raw = response.iter_raw()
            next(raw)
            second.process.send_signal(signal.SIGTERM)
            rest = b"".join(raw)
        assert rest.endswith(b"data: [DONE]\n\n"), "what has begun is drained"
        assert second.process.wait(20) in (0, -signal.SIGTERM)
