"""Requests whose answers take long: together with others for the same version, off the event loop."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import select
from statistics import median
from time import perf_counter
from typing import Any

import httpx
import numpy as np
import pytest

from lepton_plugins.routing.cores import whole_cores
from lepton_plugins.routing.router import Router
from lepton_plugins.routing.store import open_reader

ROUTE = "/v2/models/flights/infer"


@pytest.fixture(scope="module")
def slow(make_deployment: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Version 2 (carrier UA) takes some 50 ms a row; 1 and 3 next to nothing."""
    path = tmp_path_factory.mktemp("slow") / "flights"
    return make_deployment(path, layout="tensors", work={"2": 250_000})


@pytest.fixture(scope="module")
def served(slow: Any, start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with start_server(slow.path, tmp_path_factory.mktemp("server")) as running:
        yield running


def row(carrier: str, value: float = 0.5) -> dict[str, Any]:
    x = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [value, 0.25, 0.0, 1.0]}
    return {"inputs": [x, {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": [carrier]}]}


def raw(carrier: str) -> bytes:
    body = json.dumps(row(carrier)).encode()
    head = f"POST {ROUTE} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


def heads(connection: socket.socket, answers: int | None = None) -> list[dict[bytes, bytes]]:
    """The headers of so many answers on one connection, or of all until it closes, in their order."""
    file = connection.makefile("rb")
    found: list[dict[bytes, bytes]] = []
    while len(found) != answers and (first := file.readline()):
        assert first.startswith(b"HTTP/1.1 200")
        headers = dict(line.strip().split(b": ", 1) for line in iter(file.readline, b"\r\n"))
        file.read(int(headers[b"content-length"]))
        found.append(headers)
    return found


def versions(connection: socket.socket, answers: int) -> list[str]:
    """The versions that so many answers on one connection come from, in their order."""
    return [headers[b"x-lepton-version"].decode() for headers in heads(connection, answers)]


def test_a_fast_version_does_not_wait_for_a_slow_one(served: Any):
    with ThreadPoolExecutor(1) as pool, connected(served.url) as fast:
        waiting = [socket.create_connection(fast.getpeername()) for _ in range(16)]
        for connection in waiting:
            connection.sendall(raw("UA"))
        fast.sendall(raw("AA"))
        assert pool.submit(versions, fast, 1).result(30) == ["1"]
        for connection in waiting:
            connection.setblocking(False)
        behind = 0
        for connection in waiting:
            try:
                connection.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                behind += 1
        assert behind >= 8  # Each of these rows takes longer than the fast one, in two calls at a time.
        for connection in waiting:
            connection.settimeout(30)
            assert versions(connection, 1) == ["2"]
            connection.close()


def test_a_slow_version_keeps_no_more_threads_than_it_runs_calls(
    slow: Any, start_server: Callable[..., Any], tmp_path: Path
):
    """Who waits for it waits in no thread: a fast one gets its own."""
    threads = whole_cores() + 1
    with start_server(slow.path, tmp_path, call_threads=threads) as running, ExitStack() as stack:
        fast, *waiting = (stack.enter_context(connected(running.url)) for _ in range(25))
        for connection in waiting:
            connection.sendall(raw("UA"))
            time.sleep(0.002)  # Each is a request of its own, not one of those that are read in one turn.
        fast.sendall(raw("AA"))
        assert versions(fast, 1) == ["1"]
        answered, _, _ = select(waiting, [], [], 0)
        assert len(answered) < 24 - threads  # Else it comes when one of the last of them leaves its thread.
        assert [versions(connection, 1) for connection in waiting] == [["2"]] * 24


@pytest.mark.parametrize("together", [True, False], ids=["in one write", "one after the other"])
def test_requests_ahead_of_a_long_answer_are_answered_in_their_order(served: Any, together: bool):
    with connected(served.url) as connection:
        requests = [raw(carrier) for carrier in ("UA", "AA", "UA", "WN")]
        for request in [b"".join(requests)] if together else requests:
            connection.sendall(request)
        assert versions(connection, 4) == ["2", "1", "2", "3"]


def test_a_long_answer_is_given_when_the_server_ends(slow: Any, start_server: Callable[..., Any], tmp_path: Path):
    with start_server(slow.path, tmp_path) as running, connected(running.url) as connection:
        connection.sendall(raw("UA"))
        assert versions(connection, 1) == ["2"]
        for _ in range(4):
            connection.sendall(raw("UA"))
        running.process.send_signal(signal.SIGTERM)
        given = heads(connection)
        assert {headers[b"x-lepton-version"] for headers in given} == {b"2"}
        assert given[-1][b"connection"] == b"close", "else the client sends its next request into nothing"
        assert running.process.wait(30) == 0


def test_clients_of_a_server_that_ends_lose_no_request(slow: Any, start_server: Callable[..., Any], tmp_path: Path):
    asked = 0

    def ask(request: bytes) -> None:
        """Requests until an answer says that it is the connection's last."""
        nonlocal asked
        with connected(running.url) as connection:
            last = False
            while not last:
                connection.sendall(request)
                (headers,) = heads(connection, 1)
                last = headers.get(b"connection") == b"close"
                asked += 1
                time.sleep(0.001)  # Mostly, the connection is at rest when the server is told to end.
            assert connection.recv(1) == b""

    requests = [raw("AA"), raw("AA"), b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n"]
    with start_server(slow.path, tmp_path) as running, ThreadPoolExecutor(len(requests)) as pool:
        clients = [pool.submit(ask, request) for request in requests]
        while asked < 50 and not any(client.done() for client in clients):
            time.sleep(0.01)
        with connected(running.url):  # Nobody says anything here: it keeps the server no longer than a second.
            running.process.send_signal(signal.SIGTERM)
            assert [client.result(30) for client in clients] == [None] * 3
            assert running.process.wait(30) == 0


def test_long_answers_are_right_and_their_decisions_logged_and_replayed(
    slow: Any, start_server: Callable[..., Any], tmp_path: Path
):
    log = f"jsonl:{tmp_path / 'log'}"
    values = np.linspace(-1, 1, 24)
    rows = np.array([[value, 0.25, 0.0, 1.0] for value in values])

    def ask(number: int) -> httpx.Response:
        headers = {"x-lepton-key": f"unit-{number}"}
        return httpx.post(running.url + ROUTE, json=row("UA", values[number]), headers=headers, timeout=60)

    with start_server(slow.path, tmp_path, decisions=log) as running, ThreadPoolExecutor(len(values)) as pool:
        answers = list(pool.map(ask, range(len(values))))
    positive = [answer.json()["outputs"][0]["data"][1] for answer in answers]
    np.testing.assert_allclose(positive, slow.expected("2", rows), rtol=1e-4)
    blocks = list(open_reader(log).blocks())
    decided = {decision.id: decision for block in blocks for decision in block.rows()}
    with Router.load(slow.path) as router:
        assert all((router.replay(block) == block.chosen).all() for block in blocks)
        for number, answer in enumerate(answers):
            decision = decided[answer.headers["x-lepton-decision"]]
            assert (decision.served, decision.context["carrier"]) == ("2", "UA")
            expected = router.decide({"carrier": "UA"}, f"unit-{number}")
            assert (decision.key, decision.draw) == (expected.key, expected.draw)


def test_what_is_wrong_with_one_request_is_told_to_it_alone(served: Any):
    def ask(number: int) -> httpx.Response:
        body = row("UA")
        if number == 5:
            body["inputs"][0]["shape"] = [1, 3]
        return httpx.post(served.url + ROUTE, json=body, timeout=60)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    assert [answer.status_code for answer in answers] == [400 if number == 5 else 200 for number in range(12)]
    assert answers[5].json()["field"] == "X"


def counted(url: str) -> tuple[float, float]:
    """Calls of version 2's model so far, and their rows."""
    shown = dict(line.rsplit(" ", 1) for line in httpx.get(url + "/metrics").text.splitlines())
    calls, rows = (shown[f'lepton_model_{name}_total{{model="flights",version="2"}}'] for name in ("calls", "rows"))
    return float(calls), float(rows)


@pytest.mark.parametrize("slo", [None, 0.05], ids=["no objective", "50 ms"])
def test_the_objective_bounds_how_many_are_answered_by_one_call(
    make_deployment: Callable[..., Any], start_server: Callable[..., Any], tmp_path: Path, slo: float | None
):
    """A call may take half of the objective; a row takes the same time in any."""
    made = make_deployment(tmp_path / "flights", layout="tensors", work={"2": 50_000}, slo=slo)
    with start_server(made.path, tmp_path) as running, ExitStack() as stack:
        connections = [stack.enter_context(connected(running.url)) for _ in range(32)]

        def ask_all() -> None:
            for connection in connections:
                connection.sendall(raw("UA"))
            assert {version for connection in connections for version in versions(connection, 1)} == {"2"}

        for _ in range(6):  # Until it has found how many.
            ask_all()
        alone = []
        for _ in range(8):
            began = perf_counter()
            connections[0].sendall(raw("UA"))
            assert versions(connections[0], 1) == ["2"]
            alone.append(perf_counter() - began)
        before = counted(running.url)
        for _ in range(6):
            ask_all()
        after = counted(running.url)
    calls, rows = after[0] - before[0], after[1] - before[1]
    assert rows == 6 * 32
    together = rows / calls
    if slo is None:
        assert together >= 4
    else:
        assert together <= 1.5 * max(1.0, slo / 2 / median(alone))
