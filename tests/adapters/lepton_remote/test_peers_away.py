"""What a caller is told, and how soon, where a peer can't answer now."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lepton_plugins.routing.directory import write_plan
from lepton_plugins.serving.app import create_app
from lepton_plugins.testing.deployment import place_version
from lepton_remote.backend import describe
from lepton_remote.endpoint import Endpoint
from lepton_remote.peer import retry_after


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
