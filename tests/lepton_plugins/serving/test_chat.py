"""OpenAI's chat completions passed through, of a real server that speaks them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import httpx
import pytest

from lepton_plugins.records.signature import Field
from lepton_remote.backend import describe

from .streams import CHAT, ask, decisions, events, routed

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
        yield ": almost there\\r\\nid: 4\\r\\ndata: [DONE]\\r\\n\\r\\n" if said == "framed" else "data: [DONE]\\n\\n"
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


def test_a_last_event_may_have_a_comment_and_an_id(chats):
    server, _, _ = chats
    with server.client() as client:
        text = ask(client, "framed").text
    assert len(events(text)) == 3
    assert text.endswith("data: [DONE]\r\n\n")
    assert "event: error" not in text


def test_what_goes_wrong_at_a_chats_peer(chats):
    server, _, _ = chats
    with server.client() as client:
        refused = ask(client, "refused")
        assert (refused.status_code, refused.json()["code"]) == (400, "peer_refused")
        busy = ask(client, "busy")
        # Both versions' server has too much to do: the same request may be answered later.
        assert (busy.status_code, busy.json()["code"]) == (503, "no_version_available")
        assert busy.headers["retry-after"] == "1"
        assert "version 1 (peer_unavailable)" in busy.json()["error"]
        silent = ask(client, "silent")
        assert (silent.status_code, silent.json()["code"]) == (504, "no_version_available")
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
