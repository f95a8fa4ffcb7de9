"""Requests that are answered where they are read: the same answers, whichever way a request comes."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

BODY = json.dumps({"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [0.5, -1, 2, 0.25]}]}).encode()
PATH = b"/v2/models/flights/infer"


def request(body: bytes = BODY, path: bytes = PATH, head: bytes = b"", version: bytes = b"1.1") -> bytes:
    first = b"POST %b HTTP/%b\r\nhost: localhost\r\ncontent-type: application/json\r\n" % (path, version)
    return first + head + b"content-length: %d\r\n\r\n" % len(body) + body


class Wire:
    """One connection; answers are read one by one."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._read = b""

    def send(self, data: bytes) -> Wire:
        self._socket.sendall(data)
        return self

    def answer(self) -> tuple[int, dict[bytes, bytes], Any]:
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, rest = self._read.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        length = int(headers[b"content-length"])
        while len(rest) < length:
            self._more()
            rest = self._read.partition(b"\r\n\r\n")[2]
        self._read = rest[length:]
        return int(first.split()[1]), headers, json.loads(rest[:length])

    def closed(self) -> bool:
        return self._read == b"" and self._socket.recv(1) == b""

    def _more(self) -> None:
        data = self._socket.recv(65536)
        assert data, "closed"
        self._read += data


@pytest.fixture
def wire(tensor_server):
    wire = Wire(tensor_server.url)
    for _ in range(30):  # From here on the kind is known to be short.
        assert wire.send(request()).answer()[0] == 200
    return wire


def values(answer: tuple[int, dict[bytes, bytes], Any]) -> Any:
    assert answer[0] == 200, answer
    return answer[2]["outputs"][0]["data"]


def test_however_it_arrives_the_answer_is_the_same(wire):
    whole = values(wire.send(request()).answer())
    whole_request = request()
    for cut in (10, whole_request.index(b"\r\n\r\n") + 4, len(whole_request) - 5):
        wire.send(whole_request[:cut])
        time.sleep(0.05)
        assert values(wire.send(whole_request[cut:]).answer()) == whole
    wire.send(b"POST %b HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n" % PATH)
    half = len(BODY) // 2
    wire.send(b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (half, BODY[:half], len(BODY) - half, BODY[half:]))
    assert values(wire.answer()) == whole
    assert values(wire.send(request(path=PATH + b"?")).answer()) == whole


def test_several_in_one_write_are_answered_in_their_order(wire):
    bad = request(b"{")
    wire.send(request() + bad + request(path=b"/invocations", body=b"[]") + request())
    assert [wire.answer()[0] for _ in range(4)] == [200, 400, 400, 200]


def test_a_connection_that_shall_close_closes(wire):
    status, headers, _ = wire.send(request(head=b"connection: close\r\n")).answer()
    assert (status, headers[b"connection"]) == (200, b"close")
    assert wire.closed()


def test_what_is_refused_on_the_long_way_is_refused_on_the_short_one(wire):
    media = request().replace(b"application/json", b"application/x-pickle")
    assert wire.send(media).answer()[0] == 415
    assert wire.send(request(head=b"content-encoding: gzip\r\n")).answer()[0] == 415
    assert wire.send(request(head=b"x-lepton-version: 9\r\n")).answer()[0] == 404
    assert wire.send(request(head=b"x-lepton-version: v3\r\n")).answer()[1][b"x-lepton-version"] == b"3"
    assert wire.send(request()).answer()[0] == 200


def test_forcing_needs_the_token_on_the_short_way_too(tensor_deployment, start_server, tmp_path):
    with start_server(tensor_deployment.path, tmp_path, token="a-token-of-enough-length") as server:
        wire = Wire(server.url)
        for _ in range(30):
            assert wire.send(request()).answer()[0] == 200
        assert wire.send(request(head=b"x-lepton-version: 3\r\n")).answer()[0] == 401
        bearer = b"x-lepton-version: 3\r\nauthorization: Bearer a-token-of-enough-length\r\n"
        assert wire.send(request(head=bearer)).answer()[0] == 200
        metrics = server.client().get("/metrics").text
    assert 'lepton_requests_total{code="401"' in metrics


UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"


def test_a_wish_for_http2_does_not_cost_the_body(wire):
    """Java's client, told nothing else, asks for it with its first request."""
    asked = request(head=UPGRADE)
    expected = wire.send(request()).answer()[2]["outputs"]
    for parts in ([asked], [asked[:40], asked[40:]], [asked[:-20], asked[-20:]], [asked + asked + request()]):
        for part in parts:
            wire.send(part)
            time.sleep(0.02)
        for _ in range(3 if len(parts) == 1 and len(parts[0]) > len(asked) else 1):
            status, _, told = wire.answer()
            assert (status, told["outputs"]) == (200, expected)
    assert wire.send(request(head=UPGRADE, path=b"/invocations")).answer()[2]["code"] == "input_unknown"
    assert wire.send(b"GET /v2/health/ready HTTP/1.1\r\n" + UPGRADE + b"\r\n").answer()[2] == {"ready": True}
    assert wire.send(request()).answer()[2]["outputs"] == expected
