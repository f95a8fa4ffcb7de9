"""Decisions as CloudEvents: what a receiver gets, and what happens while it is away."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lepton_cloudevents.log import CloudEventsDecisionLog
from lepton_plugins.errors import FeedbackUndelivered, InvalidInput, LogUnreadable
from lepton_plugins.records.decision import Feedback
from lepton_plugins.routing.store import open_log, open_reader
from lepton_plugins.testing import StoreContract
from lepton_plugins.testing.store import decision_block


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent; answers with the statuses it is told, then with 202."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.events: list[tuple[str, dict[str, str], dict]] = []
        self.statuses: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/events?tenant=a"
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 202
        if status < 300:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.events.append((self.path, headers, json.loads(body)))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.shutdown()
    server.server_close()


class TestContract(StoreContract):
    durable = False

    def open(self, folder: Path) -> CloudEventsDecisionLog:
        return CloudEventsDecisionLog(Receiver().url)


def test_an_event_has_kserves_attributes_and_the_version(receiver, monkeypatch):
    monkeypatch.setenv("LEPTON_NAMESPACE", "models")
    log = open_log(receiver.url)
    block = decision_block("request-1", 3)
    block.model = "flüge"
    log.append(block)
    log.flush()
    ((path, headers, data),) = receiver.events
    assert path == "/events?tenant=a"
    assert headers["content-type"] == "application/json"
    attributes = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    assert attributes.pop("source").startswith("lepton://")
    assert attributes == {
        "specversion": "1.0",
        "type": "io.lepton.inference.decisions",
        "id": "request-1",
        "time": "2023-11-14T22:13:20Z",
        "inferenceservicename": "fl%C3%BCge",
        "namespace": "models",
        "component": "predictor",
        "endpoint": "default",
        "modelversion": "1",
        "leptonplan": "sha256:" + "0" * 64,
    }
    assert data["chosen"] == [0, 1, 0]
    assert data["vectors"] == [[0.5, 0.5]]
    assert data["context"]["carrier"]["values"] == ["UA", None, "Ünï"]
    assert log.feedback([Feedback(decision="request-1/2", reward=0.5)]).stored == 1
    _, headers, data = receiver.events[1]
    assert (headers["ce-type"], headers["ce-id"]) == ("io.lepton.inference.feedback", "request-1/2")
    assert data == {"decision": "request-1/2", "reward": 0.5}
    log.close()
    with pytest.raises(LogUnreadable, match="written only"):
        open_reader(receiver.url)


def test_a_receiver_that_stumbles_gets_the_event_again(receiver):
    log = CloudEventsDecisionLog(receiver.url)
    receiver.statuses = [503, 503]
    log.append(decision_block("one", 2))
    log.flush()
    assert [headers["ce-id"] for _, headers, _ in receiver.events] == ["one"]
    receiver.statuses = [400]
    log.append(decision_block("refused", 2))
    log.append(decision_block("two", 2))
    log.close()
    assert [headers["ce-id"] for _, headers, _ in receiver.events] == ["one", "two"]
    assert log.dropped == 2


def test_nothing_waits_for_a_receiver_that_is_away(caplog):
    log = CloudEventsDecisionLog("http://127.0.0.1:9/", max_rows=50)
    longest = 0.0
    for index in range(200):
        began = time.perf_counter()
        log.append(decision_block(f"r{index}", 1))
        longest = max(longest, time.perf_counter() - began)
    with pytest.raises(FeedbackUndelivered, match="0 of 1"):
        log.feedback([Feedback(decision="r0/0", reward=1.0)])
    began = time.perf_counter()
    log.close()
    assert longest < 0.5
    assert time.perf_counter() - began < 10
    assert log.dropped == 200
    assert caplog.text.count("aren't taken") == 2, "once for decisions, once for feedback"


def test_feedback_that_was_not_taken_may_come_again(receiver):
    log = CloudEventsDecisionLog(receiver.url)
    log.append(decision_block("one", 1))
    receiver.statuses = [503] * 3
    log.flush()
    receiver.statuses = [500] * 3
    with pytest.raises(FeedbackUndelivered):
        log.feedback([Feedback(decision="one/0", reward=1.0)])
    assert log.feedback([Feedback(decision="one/0", reward=1.0)]).stored == 1
    assert log.feedback([Feedback(decision="one/0", reward=1.0)]).duplicates == 1
    log.close()


@pytest.mark.parametrize("wrong", ["http://", "http://user:secret@host/", "http://host:99999/", "http://host/#part"])
def test_an_address_that_cannot_be_sent_to(wrong):
    with pytest.raises(InvalidInput, match="expected"):
        open_log(wrong)


def test_it_pickles_as_its_address(receiver):
    log = CloudEventsDecisionLog(receiver.url)
    assert pickle.loads(pickle.dumps(log)).url == receiver.url
    log.close()
