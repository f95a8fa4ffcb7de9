"""The rules that went wrong elsewhere, each with a test of its own."""

from __future__ import annotations

import json
import socket
import time

import httpx
import pytest

from lepton_plugins.serving.access import Permission
from lepton_plugins.serving.routes import ROUTES

TOKEN = "a-token-of-enough-length"
BEARER = {"authorization": f"Bearer {TOKEN}"}
BODY = {"inputs": {"x0": 0.5, "x1": -1.0, "x2": 2.0, "x3": 0.25}}


@pytest.fixture(scope="module")
def guarded(deployment, start_server, tmp_path_factory):
    """A server with a token and small limits."""
    limits = {"body": 20_000, "rows": 10, "tensors": 8, "body_time": 1.0, "header": 8192}
    home = tmp_path_factory.mktemp("guarded")
    with start_server(deployment.path, home, token=TOKEN, limits=limits, decisions=str(home / "log")) as server:
        yield server


@pytest.fixture
def guarded_client(guarded):
    with guarded.client() as client:
        yield client


def raw(server, request: bytes, wait: float = 5.0) -> bytes:
    """What the server answers to these very bytes."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


def test_every_route_has_a_permission_and_nothing_else_answers(guarded_client):
    """MLflow CVE-2026-3198: deny by default, every route enumerated."""
    listed = {(route.method, route.path): route.permission for route in ROUTES}
    admin = {path for (_, path), permission in listed.items() if permission is Permission.ADMIN}
    force = {path for (_, path), permission in listed.items() if permission is Permission.FORCE}
    assert admin == {"/lepton/feedback", "/lepton/explain", "/lepton/plan"}
    assert force == {path for _, path in listed if "{version}" in path}
    for (method, path), permission in listed.items():
        concrete = path.replace("{model}", "flights").replace("{version}", "1")
        response = guarded_client.request(method, concrete, json={} if method == "POST" else None)
        assert (response.status_code == 401) == (permission is not Permission.PUBLIC), concrete
        authorised = guarded_client.request(method, concrete, json={} if method == "POST" else None, headers=BEARER)
        assert authorised.status_code not in (401, 403, 404, 405), concrete
    for path in (
        "/",
        "/docs",
        "/redoc",
        "/v2/repository/index",
        "/lepton",
        "/lepton/",
        "/v2/models/flights/load",
    ):
        assert guarded_client.get(path, headers=BEARER).status_code == 404, path


def test_forcing_a_version_needs_the_token(guarded_client):
    refused = guarded_client.post("/invocations", json=BODY, headers={"x-lepton-version": "2"})
    assert (refused.status_code, refused.json()["code"]) == (401, "token_required")
    assert refused.headers["www-authenticate"] == "Bearer"
    allowed = guarded_client.post("/invocations", json=BODY, headers={"x-lepton-version": "2", **BEARER})
    assert allowed.headers["x-lepton-version"] == "2"


@pytest.mark.parametrize("value", ["Bearer wrong-token-wrong-token", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer é"])
def test_a_wrong_token_is_refused(guarded_client, value):
    response = guarded_client.get("/lepton/plan", headers={"authorization": value.encode()})
    assert response.status_code == 401


@pytest.mark.parametrize("guard", ["token", "closed"])
def test_the_plans_guard_holds_on_loopback_too(make_deployment, start_server, tmp_path, guard):
    made = make_deployment(tmp_path / "flights", around={"guard": guard})
    with start_server(made.path, tmp_path) as server, server.client() as client:
        for path, headers in (("/v1/models/flights:predict", {"x-lepton-version": "2"}),):
            response = client.post(path, json=BODY, headers=headers)
            assert (response.status_code, response.json()["code"]) == (403, "forbidden")
        assert client.get("/v2/models/flights/versions/2").status_code == 403
        assert client.post("/invocations", json=BODY).status_code == 200
    if guard == "token":
        with start_server(made.path, tmp_path, token=TOKEN) as server, server.client() as client:
            headers = {"x-lepton-version": "2", **BEARER}
            assert client.post("/invocations", json=BODY, headers=headers).headers["x-lepton-version"] == "2"


def test_beyond_loopback_admin_and_forcing_need_a_token_to_be_set(deployment, start_server, tmp_path):
    """TorchServe CVE-2023-43654, Ray CVE-2023-48022: a trusted network is no authentication."""
    with start_server(deployment.path, tmp_path, host="0.0.0.0") as server:
        port = server.url.rpartition(":")[2]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.post("/invocations", json=BODY).status_code == 200
            assert client.get("/lepton/plan").status_code == 403
            assert client.get("/v2/models/flights/versions/2").status_code == 403
            forced = client.post("/invocations", json=BODY, headers={"x-lepton-version": "2"})
            assert (forced.status_code, forced.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "a@localhost"]
)
def test_admin_routes_answer_only_known_hosts(server, host):
    """MLflow CVE-2025-14279, Ray CVE-2025-62593: DNS rebinding, on localhost too."""
    with server.client() as client:
        refused = client.get("/lepton/plan", headers={"host": host})
        assert refused.status_code == 403
        assert refused.json()["error"].endswith("--allowed-host adds one.")
        assert client.get("/v2", headers={"host": host}).status_code == 200
        assert client.get("/lepton/plan", headers={"host": "localhost:9999"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "file://", "http://localhost.evil.example"])
def test_admin_routes_refuse_other_origins(client, origin):
    assert client.get("/lepton/plan", headers={"origin": origin}).status_code == 403
    assert client.get("/lepton/plan", headers={"origin": "http://localhost:3000"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/flights%2fversions%2f2/infer",
        "/v2/models/..%2f..%2fetc%2fpasswd",
        "/v2/models/%252e%252e",
        "/v2/models/a%5cb",
        "/lepton%2Fplan",
        "//lepton/plan",
        "/./lepton/plan",
        "/v2/../lepton/plan",
        "/lepton/plan/",
        "/LEPTON/plan",
        "/lepton/plan;x",
        "/lepton/plan%00",
    ],
)
def test_no_spelling_of_a_path_gets_round_authorisation(guarded, path):
    """MLflow CVE-2023-1177, CVE-2024-1560: decode once, then compare."""
    for method in ("GET", "POST"):
        answer = raw(guarded, f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        assert answer.split(b" ")[1] in (b"400", b"404", b"405"), answer


def test_authorised_by_the_path_that_is_routed_not_by_a_header(guarded):
    """Starlette CVE-2026-48710: Host and forwarded paths are no path."""
    headers = b"host: localhost/v2?\r\nx-original-url: /v2\r\nx-forwarded-prefix: /v2\r\nconnection: close\r\n\r\n"
    request = b"GET /lepton/plan HTTP/1.1\r\n" + headers
    assert raw(guarded, request).split(b" ")[1] in (b"401", b"403")


@pytest.mark.parametrize(
    "media",
    ["multipart/form-data; boundary=" + "a" * 2000, "application/x-pickle", "application/octet-stream", "text/plain"],
)
def test_other_media_types_are_refused(guarded_client, media):
    """BentoML CVE-2024-9056 (multipart), CVE-2025-27520 (pickle on the wire)."""
    response = guarded_client.post("/invocations", content=b"x" * 100, headers={"content-type": media})
    assert (response.status_code, response.json()["code"]) == (415, "media_type_unsupported")
    encoded = guarded_client.post("/invocations", json=BODY, headers={"content-encoding": "gzip"})
    assert encoded.status_code == 415


def test_a_body_is_bounded_by_its_length_and_while_it_arrives(guarded_client):
    """Triton CVE-2025-23310/-23311: chunked bodies."""
    told = guarded_client.post("/invocations", content=b" " * 30_000, headers={"content-type": "application/json"})
    assert (told.status_code, told.json()["code"]) == (413, "body_too_large")
    chunked = guarded_client.post(
        "/invocations", content=(b" " * 1000 for _ in range(40)), headers={"content-type": "application/json"}
    )
    assert (chunked.status_code, chunked.json()["code"]) == (413, "body_too_large")


def test_a_body_that_dawdles_is_given_up(guarded):
    host, port = guarded.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        started = time.monotonic()
        assert connection.recv(65536).split(b" ")[1] == b"408"
        assert time.monotonic() - started < 5


def test_what_is_not_http_is_refused_as_anything_else(guarded):
    answer = raw(guarded, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert json.loads(body)["expected"] == "HTTP/1.1"


def test_headers_are_bounded(guarded):
    big = b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nx-big: " + b"a" * 20_000 + b"\r\nconnection: close\r\n\r\n"
    answer = raw(guarded, big)
    assert answer.split(b" ")[1] == b"431"
    assert b'"code":"headers_too_large","expected":"at most ' in answer
    many = b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n" + b"".join(b"x-%d: a\r\n" % i for i in range(3000)) + b"\r\n"
    assert raw(guarded, many).split(b" ")[1] == b"431"
    host, port = guarded.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nx-endless: ")
        with pytest.raises(OSError):
            send_for_ever(connection)


def connect(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def chunked(path: bytes, body: bytes) -> bytes:
    """A request up to its trailers."""
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n" % path
    return b"%b%x\r\n%b\r\n0\r\n" % (head, len(body), body)


def test_trailers_are_not_headers(guarded):
    """A gateway that takes x-lepton-version out of the headers need not look behind the body."""
    trailers = b"x-lepton-version: 3\r\nauthorization: Bearer " + TOKEN.encode() + b"\r\ncontent-type: text/csv\r\n"
    for path in (b"/invocations", b"/v2/models/flights/infer"):
        with connect(guarded) as connection:
            connection.sendall(chunked(path, json.dumps(BODY).encode()) + trailers + b"\r\n")
            answer = connection.recv(65536)
            assert answer.split(b" ")[1] == (b"200" if path == b"/invocations" else b"400")
            assert b"token_required" not in answer
            assert b"x-lepton-version: 3" not in answer


@pytest.mark.parametrize(("began", "part"), [(b"", b"x-many: a\r\n" * 6000), (b"x-endless: ", b"a" * 65536)])
def test_trailers_are_bounded(server, began, part):
    with connect(server) as connection:
        connection.sendall(chunked(b"/invocations", b"{") + began)
        with pytest.raises(OSError):
            send_for_ever(connection, part)


def send_for_ever(connection, part=b"a" * 65536):
    for _ in range(200):
        connection.sendall(part)
        time.sleep(0.002)


def test_rows_tensors_and_depth_are_bounded(guarded_client):
    rows = guarded_client.post("/v1/models/flights:predict", json={"instances": [[1, 2, 3, 4]] * 11})
    assert (rows.status_code, rows.json()["code"]) == (413, "too_many_rows")
    tensors = [{"name": f"t{i}", "shape": [1], "datatype": "FP32", "data": [1]} for i in range(9)]
    many = guarded_client.post("/v2/models/flights/infer", json={"inputs": tensors})
    assert many.status_code == 400
    for body in (b"[" * 15_000, b'{"a":' * 3_000, b'{"inputs":' + b"[" * 9000 + b"]" * 9000 + b"}"):
        for path in ("/invocations", "/v2/models/flights/infer", "/v1/models/flights:predict"):
            response = guarded_client.post(path, content=body, headers={"content-type": "application/json"})
            assert response.status_code == 400, response.text


def test_every_answer_forbids_guessing_its_type(guarded_client):
    """MLflow CVE-2024-27132: what a client sent comes back only as JSON that stays JSON."""
    for response in (
        guarded_client.get("/v2/models/<script>alert(1)</script>"),
        guarded_client.post("/invocations", json={"inputs": {"<script>": 1}}),
        guarded_client.get("/v2"),
        guarded_client.get("/ping"),
        guarded_client.get("/metrics"),
    ):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "html" not in response.headers["content-type"]


def test_an_unexpected_failure_tells_an_id_and_nothing_else(make_deployment, start_server, tmp_path):
    """Triton CVE-2025-23310 … -23334: an internal name in an error opened a chain."""
    made = make_deployment(tmp_path / "flights", layout="tensors", declared=5)
    with start_server(made.path, tmp_path) as server, server.client() as client:
        # The signature promises five features, the models take four: ONNX Runtime fails within.
        tensor = {"name": "X", "shape": [1, 5], "datatype": "FP32", "data": [1, 2, 3, 4, 5]}
        for path, body in (
            ("/v2/models/flights/infer", {"inputs": [tensor]}),
            ("/invocations", {"inputs": {"X": [[1, 2, 3, 4, 5]]}}),
        ):
            response = client.post(path, json=body)
            assert (response.status_code, response.json()["code"]) == (500, "model_failed")
            assert response.json()["error"].startswith("No version could answer: version 1 (model_failed). ")
            for telling in ("Traceback", "onnxruntime", str(tmp_path), ".py", "site-packages", "/", "INVALID"):
                assert telling not in response.text.replace("application/json", "")
            logged = server.errors.read_text()
            assert response.json()["id"] in logged
            assert "Traceback" in logged
        assert client.get("/v2/health/ready").status_code == 200


def test_a_client_that_asks_too_long_a_name_gets_a_short_answer(guarded_client):
    response = guarded_client.post("/invocations", json={"inputs": {"x" * 15_000: 1}})
    assert response.status_code == 400
    assert len(response.content) < 4000
