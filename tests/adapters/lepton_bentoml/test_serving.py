"""What a bento that serves keeps on every path: the limits of a request, and those that its workers share."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import httpx
import pytest

from lepton_plugins.generate import generate
from tests.lepton_plugins.serving.conftest import build_deployment
from tests.processes import serving

pytest.importorskip("bentoml")

LIMITS = {"body": 1 << 16, "header": 1 << 13, "body_time": 1}
INPUTS = [
    {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [0.5, -1.0, 2.0, 0.25]},
    {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
]
ROW = {"X": [0.5, -1.0, 2.0, 0.25], "carrier": "UA"}


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory, free_port: Any) -> Iterator[str]:
    """Two workers; version 2 (carrier UA) takes half a second a row and may be called four times at once."""
    folder = tmp_path_factory.mktemp("serving")
    made = build_deployment(
        folder / "flights",
        layout="tensors",
        versions=2,
        work={"2": 3_000_000},
        around={"degrade": {"to": "1", "concurrency": {"2": 4}}, "breaker": None},
    )
    generate(made.path, "bentoml", folder / "project", {"workers": "2"})
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "bentoml", "serve", "service:Router", "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "BENTOML_HOME": str(folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    env["LEPTON_LIMITS"] = ",".join(f"{name}={value}" for name, value in LIMITS.items())
    with serving(command, f"{url}/readyz", folder / "project", env):
        yield url


@pytest.mark.parametrize("path", ["/predict", "/decide", "/predict_batch", "/invocations"])
@pytest.mark.parametrize("told", [True, False], ids=["its length told", "in chunks"])
def test_a_body_beyond_the_limit_is_refused_while_it_comes(path: str, told: bool, bento: str) -> None:
    body = json.dumps({"rows": [ROW] * 2000}).encode()
    assert len(body) > LIMITS["body"]
    parts = (body[at : at + 8192] for at in range(0, len(body), 8192))
    headers = {"content-type": "application/json"}
    answer = httpx.post(bento + path, content=body if told else parts, headers=headers, timeout=30)
    assert answer.status_code == 413
    assert answer.json() == {
        "error": "The request's body is too large; expected at most 65536 bytes.",
        "code": "body_too_large",
        "expected": "at most 65536 bytes",
    }
    assert answer.headers["connection"] == "close"


def test_a_body_in_chunks_within_the_limit_is_answered(bento: str) -> None:
    body = json.dumps({"rows": [ROW] * 5}).encode()
    parts = (body[at : at + 50] for at in range(0, len(body), 50))
    answer = httpx.post(f"{bento}/predict", content=parts, headers={"content-type": "application/json"}, timeout=30)
    assert answer.status_code == 200
    assert len(answer.json()) == 5


def test_headers_beyond_the_limit_and_a_body_that_does_not_come(bento: str) -> None:
    large = {"x-much": "a" * LIMITS["header"]}
    answer = httpx.post(f"{bento}/predict", json={"rows": [ROW]}, headers=large, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")
    host, port = bento.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        start = perf_counter()
        connection.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert perf_counter() - start < 10


def test_workers_share_a_versions_calls(bento: str) -> None:
    """Each of the two has half of the four."""
    host, port = bento.removeprefix("http://").split(":")
    body = json.dumps({"inputs": INPUTS}).encode()
    head = (
        f"POST /v2/models/flights/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )

    async def at_once() -> int:
        """How many of so many requests that come together version 2 answers."""
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(24)]
        for _, writer in opened:
            writer.write(head.encode() + body)
        answers = [await reader.read() for reader, _ in opened]
        for _, writer in opened:
            writer.close()
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        return sum(b"x-lepton-version: 2\r\n" in answer for answer in answers)

    counts = [asyncio.run(at_once()) for _ in range(3)]
    # The first one tells that such calls belong into threads.
    assert 1 <= max(counts[1:]) <= 4, counts
