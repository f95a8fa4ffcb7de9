"""Requests that are read in one turn of the event loop are answered together, and none notices the others."""

from __future__ import annotations

import json
import socket
from typing import Any

import msgspec
import numpy as np
import pytest

from lepton_plugins.errors import RequestInvalid
from lepton_plugins.routing.router import Router
from lepton_plugins.serving.call import Call
from lepton_plugins.serving.served import Served
from lepton_plugins.serving.settings import ServingSettings
from lepton_plugins.serving.state import ServerState
from lepton_plugins.serving.v2 import infer

PATH = "/v2/models/flights/infer"


def body(values: list[Any], carrier: str, datatype: str = "FP32") -> bytes:
    inputs = [
        {"name": "X", "shape": [len(values) // 4, 4], "datatype": datatype, "data": values},
        {"name": "carrier", "shape": [len(values) // 4], "datatype": "BYTES", "data": [carrier] * (len(values) // 4)},
    ]
    return json.dumps({"inputs": inputs}).encode()


@pytest.fixture
def served(tensor_deployment):
    with Router.load(tensor_deployment.path) as router:
        yield Served(router, ServerState(ServingSettings()))


def ask(served: Served, content: bytes, **headers: str) -> Any:
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return infer(served, Call({"model": "flights"}, given, content))


def test_each_gets_its_own_answer_and_decision(served, tensor_deployment):
    random = np.random.default_rng(3)
    rows = random.normal(size=(30, 4)).round(3)
    carriers = random.choice(["AA", "UA", "WN", "XX"], size=30).tolist()
    asked = [ask(served, body(row.tolist(), carrier)) for row, carrier in zip(rows, carriers, strict=True)]
    asked[7] = ask(served, body(rows[:3].ravel().tolist(), "UA"))  # Three rows: by itself.
    asked[9] = ask(served, body(rows[9].tolist(), "AA"), x_lepton_version="3")
    asked[11] = ask(served, body(rows[11].tolist(), carriers[11]), x_lepton_key="customer")
    replies = served.predict_together(asked)
    own = {"AA": "1", "UA": "2", "WN": "3", "XX": "1"}
    decisions = set()
    for number, (one, reply) in enumerate(zip(asked, replies, strict=True)):
        alone = served.predict(one.call, one.columns, one.rows)
        assert reply.version == alone.version == ("3" if number == 9 else "2" if number == 7 else own[carriers[number]])
        np.testing.assert_allclose(reply.values, alone.values, rtol=1e-6)
        shown = msgspec.json.decode(one.answer(reply).body)
        assert shown["model_version"] == reply.version
        decisions.add((shown["id"], dict(reply.headers)[b"x-lepton-decision"]))
    assert len(decisions) == 30


def test_what_is_wrong_with_one_is_told_to_that_one_only(served):
    good, bad = [0.5, -1, 2, 0.25], [0.5, -1, 2, None]
    contents = [body(good, "UA"), body(good, "UA"), body(bad, "UA"), body(good, "AA")]
    replies = served.predict_together([ask(served, content) for content in contents])
    assert [isinstance(reply, Exception) for reply in replies] == [False, False, True, False]
    assert isinstance(replies[2], RequestInvalid) or "answer" in str(replies[2])
    mixed = [body(good, "UA"), body(good, "UA", "INT64"), body(good, "UA")]
    with pytest.raises(RequestInvalid):
        ask(served, mixed[1])


def test_inputs_of_other_lengths_are_nobody_elses(served):
    """One lacks a value, another has one too many: together they would fit."""
    matrix = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
    short = {"name": "carrier", "shape": [0], "datatype": "BYTES", "data": []}
    long = {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["UA", "AA"]}
    contents = [json.dumps({"inputs": [matrix, carrier]}).encode() for carrier in (short, long)]
    replies = served.predict_together([ask(served, content) for content in contents])
    assert all(isinstance(reply, RequestInvalid) for reply in replies)


def test_a_model_that_refuses_a_row_refuses_it_alone(served, monkeypatch):
    arm = served.router._answerer._arms[1]
    answer = arm.predict

    def picky(columns, rows):
        if (columns["X"][:, 0] == 13).any():
            raise ValueError("thirteen")
        return answer(columns, rows)

    monkeypatch.setattr(arm, "predict", picky)
    contents = [body([first, 0.0, 0.0, 0.0], "UA") for first in (1.0, 13.0, 2.0)]
    replies = served.predict_together([ask(served, content) for content in contents])
    assert [reply.version for reply in replies] == ["2", "1", "2"]
    assert [reply.causes for reply in replies] == [None, ["model_failed"], None]


def test_over_many_connections_at_once(tensor_deployment, tensor_server):
    host, port = tensor_server.url.removeprefix("http://").split(":")
    connections = [socket.create_connection((host, int(port)), timeout=20) for _ in range(24)]
    random = np.random.default_rng(5)
    own = {"AA": "1", "UA": "2", "WN": "3"}
    for _ in range(30):
        sent = []
        for connection in connections:
            row, carrier = random.normal(size=4).round(int(random.integers(1, 6))), random.choice(list(own))
            content = body(row.tolist(), carrier)
            head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            sent.append((row, carrier))
        for connection, (row, carrier) in zip(connections, sent, strict=True):
            data = b""
            while b"]}]}" not in data:
                data += connection.recv(65536)
            shown = json.loads(data.partition(b"\r\n\r\n")[2])
            assert shown["model_version"] == own[carrier]
            expected = tensor_deployment.expected(own[carrier], row)
            assert abs(shown["outputs"][0]["data"][1] - expected) < 1e-5
    for connection in connections:
        connection.close()
