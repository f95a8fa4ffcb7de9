"""Twenty thousand requests of any kind to every route: no 5xx, no stack trace, no path; the application lives.

In the process itself, where a request costs a fraction of a millisecond; `test_fuzz.py` asks a real server.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton_plugins.serving.app import ServingApp
from lepton_plugins.serving.routes import ROUTES
from lepton_plugins.serving.settings import ServingSettings

#: What no answer may hold.
TELLING = (b"Traceback", b'File "', b"site-packages", b"/lepton_plugins", b"/tmp/", b" at 0x")

REQUESTS = 20_000

names = st.sampled_from(["x0", "x1", "x2", "x3", "carrier", "X", ""]) | st.text(max_size=3)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["UA", "FP64", "é", "\x00", "1e400"]),
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
tensor = st.fixed_dictionaries(
    {
        "name": names,
        "shape": st.lists(st.integers(-1, 3), max_size=3),
        "datatype": st.sampled_from(["BOOL", "INT8", "UINT64", "FP16", "FP32", "FP64", "BYTES", "FP8"]),
        "data": st.lists(leaves, max_size=4),
    },
    optional={"parameters": st.fixed_dictionaries({"binary_data_size": leaves})},
)
row = st.fixed_dictionaries({f"x{i}": leaves for i in range(4)}, optional={"carrier": leaves})
objects = st.one_of(
    values,
    st.fixed_dictionaries({"inputs": st.lists(tensor, max_size=5)}, optional={"id": leaves, "outputs": values}),
    st.fixed_dictionaries({"instances": st.lists(row, max_size=2)}),
    st.fixed_dictionaries({"dataframe_records": st.lists(row, max_size=2)}),
    st.fixed_dictionaries({"context": row}, optional={"key": values}),
    st.fixed_dictionaries({"decision": leaves}, optional={"reward": leaves, "label": values}),
)
bodies = st.one_of(
    objects.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40), st.just(b"[" * 5000), st.just(b"")
)
header_sets = st.dictionaries(
    st.sampled_from(
        [b"x-lepton-version", b"x-lepton-key", b"content-type", b"inference-header-content-length", b"host", b"origin"]
    ),
    st.sampled_from([b"application/json", b"text/csv", b"application/octet-stream", b"2", b"v9", b"-1", b"localhost"])
    | st.binary(max_size=6),
    max_size=2,
)
odd_paths = st.sampled_from(
    [
        "/",
        "//",
        "/v2/../v2",
        "/v2/models/%2e%2e",
        "/v2/models/flights/versions//infer",
        "/lepton/plan/",
        "/v1/models/:predict",
    ]
) | st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?"), max_size=20).map("/".__add__)


class InProcess:
    """Asks the application as a server would."""

    def __init__(self, app: ServingApp) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()
        self.lifespan = app.router.lifespan_context(app)
        self.loop.run_until_complete(self.lifespan.__aenter__())
        self.codes: Counter[int] = Counter()

    def close(self) -> None:
        self.loop.run_until_complete(self.lifespan.__aexit__(None, None, None))
        self.loop.close()

    def ask(self, requests: list[tuple[str, str, dict[bytes, bytes], bytes]]) -> None:
        self.loop.run_until_complete(self._all(requests))

    async def _all(self, requests: list[tuple[str, str, dict[bytes, bytes], bytes]]) -> None:
        await asyncio.gather(*(self._one(*request) for request in requests))

    async def _one(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        given = {b"host": b"localhost", b"content-type": b"application/json", **headers}
        raw = path.encode()
        scope = {"type": "http", "method": method, "path": path, "raw_path": raw, "headers": list(given.items())}
        await self.app.answer(scope, receive, send)
        status, content = sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])
        self.codes[status] += 1
        assert status < 500, (method, path, headers, body, content)
        assert not [telling for telling in TELLING if telling in content], (method, path, body, content)
        if status >= 400:
            assert set(json.loads(content)) >= {"error", "code"}
            assert b"onnxruntime" not in content


@pytest.fixture(scope="module")
def asked(deployment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    process = InProcess(ServingApp(deployment.path, ServingSettings(decisions=str(folder / "decisions"))))
    yield process
    process.close()


PATHS = sorted({route.path.replace("{model}", "flights").replace("{version}", "2") for route in ROUTES})
POSTS = sorted({r.path.replace("{model}", "flights").replace("{version}", "2") for r in ROUTES if r.method == "POST"})


@settings(max_examples=300, database=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(content=st.lists(bodies, min_size=8, max_size=8), headers=header_sets, odd=odd_paths)
def test_every_route_with_anything(asked, content, headers, odd):
    requests = [
        ("POST", path, headers if number % 2 else {}, body) for number, body in enumerate(content) for path in POSTS
    ]
    requests += [("GET", path, headers, b"") for path in PATHS if path not in ("/metrics", "/lepton/metrics")]
    requests += [(method, odd, headers, content[0]) for method in ("GET", "POST", "PUT", "DELETE", "HEAD")]
    asked.ask(requests)


def test_they_were_twenty_thousand_and_it_still_answers(asked):
    assert sum(asked.codes.values()) >= REQUESTS
    assert asked.codes[200] > 100
    asked.ask([("GET", "/v2/health/ready", {}, b""), ("GET", "/metrics", {}, b""), ("GET", "/lepton/plan", {}, b"")])
    assert asked.codes[503] == 0


@settings(max_examples=150, database=None, derandomize=True)
@given(
    cut=st.integers(0, 160),
    junk=st.binary(max_size=12),
    length=st.sampled_from([b"0", b"-1", b"007", b"9" * 20, b"5 ", b"+5", b"0x5"]) | st.binary(max_size=4),
)
def test_bytes_that_nearly_are_a_known_request(tensor_server, cut, junk, length):
    """Over a connection whose head the server knows by now: what differs in a byte is another request."""
    host, port = tensor_server.url.removeprefix("http://").split(":")
    body = json.dumps({"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}).encode()
    head = b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: "
    good = head + str(len(body)).encode() + b"\r\n\r\n" + body
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(good)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        odd = head + length + b"\r\n\r\n" + body if cut % 2 else good[:cut] + junk + good[cut:]
        connection.sendall(odd)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while data := connection.recv(65536):
                answer += data
        except OSError:
            pass
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert b" 500 " not in answer.partition(b"\r\n")[0]
    assert not [telling for telling in TELLING if telling in answer]


def test_the_server_is_alive_after_that(tensor_server):
    assert tensor_server.client().get("/v2/health/ready").status_code == 200
    assert tensor_server.process.poll() is None
    assert "Traceback" not in tensor_server.errors.read_text()
