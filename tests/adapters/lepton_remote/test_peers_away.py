"""What a caller is told, and how soon, where a peer can't answer now."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lepton_plugins.errors import LeptonError
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.serving.app import create_app
from lepton_plugins.testing.deployment import place_version
from lepton_remote.backend import describe
from lepton_remote.connections import Connections
from lepton_remote.endpoint import Endpoint
from lepton_remote.peer import PeerTimedOut, PeerUnavailable, retry_after


class Busy(BaseHTTPRequestHandler):
    """Answers what `told` says, whatever it is asked."""

    told: tuple[int, dict[str, str]] = (200, {})

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status, headers = self.told
        self.send_response(status)
        for name, value in {**headers, "content-length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def busy() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def behind(serving: Any, tensor_peer: Any, tmp_path: Path) -> Any:
    """A deployment whose only version is on the server at an address."""

    def make(url: str, timeout: float = 5.0) -> Path:
        made = serving.build_deployment(tmp_path / "router", layout="tensors", versions=1, policy="weighted")
        known = describe(tensor_peer[1].url, "flights", tmp_path / "known", classes=("0", "1"), timeout=timeout)
        endpoint = Endpoint.model_validate_json((known / "remote.json").read_bytes())
        digest = place_version(endpoint.model_copy(update={"url": url}).write(tmp_path / "staged"), made.path)
        (arm,) = made.plan.arms
        arm = arm.model_copy(update={"artifact_digest": digest, "backend": "remote", "format": "remote"})
        write_plan(made.plan.model_copy(update={"arms": (arm,)}), {}, made.path)
        return made.path

    return make


BODY = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [0.5, -1.0, 2.0, 0.25]}]}


@pytest.mark.parametrize("status", [429, 503])
def test_when_a_peer_may_be_asked_again_reaches_the_client(
    status: int, behind: Any, busy: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = behind(f"http://127.0.0.1:{busy.server_port}")
    with TestClient(create_app(path)) as client:
        for said, told in (("7", "7"), ("86400", "60"), (None, "1")):
            monkeypatch.setattr(Busy, "told", (status, {"retry-after": said} if said is not None else {}))
            answer = client.post("/v2/models/flights/infer", json=BODY)
            assert (answer.status_code, answer.json()["code"]) == (503, "no_version_available")
            assert answer.headers["retry-after"] == told


def test_what_a_peer_says_of_when_to_ask_again() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=20)
    assert retry_after(503, format_datetime(soon, usegmt=True)) in (19, 20)
    assert retry_after(429, "Thu, 01 Jan 1970 00:00:00 GMT") == 1
    assert retry_after(429, "Fri, 31 Dec 9999 23:59:59 GMT") == 60
    assert [retry_after(503, said) for said in ("0", " 12 ", "9" * 5000)] == [1, 12, 60]
    assert [retry_after(503, said) for said in (None, "", "-3", "soon", "1.5", "²", "Mon, 99 Foo")] == [None] * 7
    assert retry_after(500, "5") is None


def test_a_name_that_nobody_looks_up_in_time_is_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answered = threading.Event()
    real = socket.getaddrinfo

    def hang(host: str, *given: Any, **named: Any) -> Any:
        if host != "peer.test":
            return real(host, *given, **named)
        asked.append(host)
        answered.wait(20)
        return real("127.0.0.1", *given, **named)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server, ThreadPoolExecutor(20) as pool:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connections = Connections(f"http://peer.test:{server.server_port}", 4, 0.5)

        def ask(_: int) -> type[Exception]:
            with pytest.raises(LeptonError) as caught:
                connections.ask("GET", "/", None, {})
            return caught.type

        started = time.monotonic()
        assert set(pool.map(ask, range(20))) == {PeerTimedOut}
        assert time.monotonic() - started < 3
        assert len(asked) == 1
        answered.set()
        assert connections.ask("GET", "/", None, {})[0] == 200
        connections.close()
        server.shutdown()


def test_a_name_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(PeerUnavailable, match=r"peer\.invalid can't be asked: .*Name or service not known"):
        Connections("http://peer.invalid", 4, 5.0).ask("GET", "/", None, {})
