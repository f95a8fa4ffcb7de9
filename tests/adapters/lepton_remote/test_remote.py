"""Versions that other servers run: real Lepton and KServe servers answer."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from lepton_plugins.canonical import digest_tree
from lepton_plugins.errors import DigestMismatch, ModelFilesInvalid, OutputUnavailable
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.loading import find_backend, load_version
from lepton_plugins.routing.micro_batch import MicroBatches
from lepton_plugins.routing.router import Router
from lepton_plugins.serving.pointer import write_pointer
from lepton_remote.backend import describe
from lepton_remote.connections import Connections
from lepton_remote.endpoint import read_endpoint
from lepton_remote.peer import PeerRefused, PeerTimedOut, PeerUnavailable

ROWS = np.array([[0.5, -1.0, 2.0, 0.25], [1.0, 1.0, 1.0, 1.0]], dtype=np.float32)


def addresses(server) -> dict[str, str]:
    return {"http": server.url, "grpc": f"grpc://{server.grpc_address}"}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_version_of_a_lepton_peer(tensor_peer, tmp_path, protocol):
    made, server = tensor_peer
    folder = describe(addresses(server)[protocol], "flights", tmp_path / "two", version="2", classes=("0", "1"))
    backend, inspection = find_backend(folder)
    assert (backend, inspection.format, inspection.carries_code) == ("remote", "remote", False)
    assert inspection.signature is not None
    assert inspection.signature.inputs[0].shape == (-1, 4)
    model, _, _ = load_version(folder, "2")
    values = model.predict({"X": ROWS}, "proba")
    np.testing.assert_allclose(values[:, 1], made.expected("2", ROWS), rtol=1e-5)
    assert model.predict({"X": ROWS}, "label").tolist() == [str(int(row[1] > 0.5)) for row in values]
    with pytest.raises(PeerRefused):
        model.predict({"X": ROWS[:, :3]}, "proba")
    with pytest.raises(OutputUnavailable):
        model.predict({"X": ROWS}, "score")
    errors: list[Exception] = []

    def ask() -> None:
        try:
            for _ in range(20):
                assert model.predict({"X": ROWS}, "proba").shape == (2, 2)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    model.close()


def test_a_peer_that_serves_something_else_than_it_did_is_refused(tensor_peer, tmp_path):
    _, server = tensor_peer
    folder = describe(server.url, "flights", tmp_path / "two", version="2")
    content = json.loads((folder / "remote.json").read_text())
    content["metadata"]["inputs"][0]["shape"] = [-1, 9]
    (folder / "remote.json").write_text(json.dumps(content))
    model, _, _ = load_version(folder, "2")
    with pytest.raises(DigestMismatch):
        model.predict({"X": ROWS}, "proba")


def test_a_peer_that_is_replaced_is_noticed(serving, tensor_peer, tmp_path, monkeypatch):
    made, _ = tensor_peer
    other = serving.build_deployment(tmp_path / "other", layout="tensors", versions=2, policy="weighted")
    state = tmp_path / "state"
    for deployment in (made, other):
        shutil.copytree(deployment.path, state / named(deployment))
    write_pointer(state, named(made))
    with serving.run_server(state, tmp_path, grpc_port=0, poll=0.05) as server:
        monkeypatch.setattr("lepton_remote.identity._AGE", 0.2)
        models = []
        for protocol, url in addresses(server).items():
            model, _, _ = load_version(describe(url, "flights", tmp_path / protocol), "1")
            assert model.predict({"X": ROWS}, "proba").shape == (2, 2)
            models.append(model)
        write_pointer(state, named(other))
        deadline = time.monotonic() + 10
        while httpx.get(f"{server.url}/v2/models/flights").json()["versions"] != ["1", "2"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        for model in models:
            for _ in range(2):
                with pytest.raises(DigestMismatch):
                    model.predict({"X": ROWS}, "proba")
            model.close()


def named(deployment) -> str:
    return f"revisions/{deployment.plan.digest.removeprefix('sha256:')}"


def test_an_answer_that_drips_is_waited_for_no_longer_than_one_that_does_not_come():
    """Each byte comes in time, the answer doesn't; on a connection that answered well before, too."""
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip(connection: socket.socket, part: bytes) -> None:
            for byte in part:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)

        def answer() -> None:
            for first, dripped in ((whole, whole[:-2]), (b"", whole[-8:])):
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    if first:
                        connection.recv(65536)
                        connection.sendall(first)
                    connection.recv(65536)
                    connection.sendall(whole[: -len(dripped)] if not first else b"")
                    drip(connection, dripped)

        peer = threading.Thread(target=answer, daemon=True)
        peer.start()
        connections = Connections(f"http://127.0.0.1:{listener.getsockname()[1]}", 4, 0.5)
        assert connections.ask("GET", "/", None, {})[2] == b"ok"
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(PeerTimedOut, match=r"within 0\.5 s"):
                connections.ask("GET", "/", None, {})
            assert time.monotonic() - started < 2
        connections.close()


def test_many_callers_of_a_peer_that_hangs_wait_about_as_long_as_one(tensor_peer, tmp_path):
    _, server = tensor_peer
    path = describe(addresses(server)["http"], "flights", tmp_path / "one", timeout=1.0)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        content = json.loads((path / "remote.json").read_text())
        content["url"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (path / "remote.json").write_text(json.dumps(content))
        model, _, _ = load_version(path, "1")
        batches = MicroBatches(lambda columns, rows: model.predict(columns, "proba"), model.connections)

        def ask(_: int) -> type[Exception] | None:
            try:
                batches.predict({"X": ROWS[:1], "carrier": np.array(["UA"], dtype=object)}, 1)
            except Exception as error:
                return type(error)
            return None

        started = time.monotonic()
        with ThreadPoolExecutor(40) as pool:
            assert set(pool.map(ask, range(40))) == {PeerTimedOut}
        assert time.monotonic() - started < 6
        model.close()


def test_an_answer_that_breaks_off_is_the_peers_fault():
    """On a connection that was used before, too."""
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                for part in (whole, whole[:-1]):
                    request = b""
                    while not request.endswith(b"{}"):  # Head and body come apart.
                        request += connection.recv(65536)
                    connection.sendall(part)

        peer = threading.Thread(target=answer)
        peer.start()
        connections = Connections(f"http://127.0.0.1:{listener.getsockname()[1]}", 4, 5.0)
        assert connections.ask("POST", "/", b"{}", {})[2] == b"ok"
        with pytest.raises(PeerUnavailable, match="IncompleteRead"):
            connections.ask("POST", "/", b"{}", {})
        peer.join()
        connections.close()


def test_what_a_descriptor_must_be(tmp_path):
    assert read_endpoint(tmp_path) is None
    (tmp_path / "remote.json").write_text('{"url": "file:///etc/passwd", "model": "m", "metadata": {"name": "m"}}')
    with pytest.raises(ModelFilesInvalid, match="url"):
        find_backend(tmp_path)
    with pytest.raises(PeerUnavailable):
        describe("http://127.0.0.1:9", "m", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture
def routed(serving, tensor_peer, tmp_path):
    """Three versions routed by carrier; the second is behind a peer of its own that can be ended."""
    behind = serving.build_deployment(tmp_path / "behind", layout="tensors", versions=1, seed=9, policy="weighted")
    with serving.run_server(behind.path, tmp_path) as server:
        made = serving.build_deployment(tmp_path / "router", layout="tensors")
        folder = describe(server.url, "flights", made.path / "models" / "staged", classes=("0", "1"), timeout=2.0)
        digest = digest_tree(folder)
        folder.rename(folder.with_name(digest.removeprefix("sha256:")))
        arms = list(made.plan.arms)
        arms[1] = arms[1].model_copy(update={"artifact_digest": digest, "backend": "remote", "format": "remote"})
        write_plan(made.plan.model_copy(update={"arms": tuple(arms)}), {}, made.path)
        yield made, behind, server


def columns(carrier: str) -> dict[str, np.ndarray]:
    return {"X": ROWS[:1], "carrier": np.array([carrier], dtype=object)}


def test_an_arm_behind_a_peer_and_the_fallback_when_it_is_away(routed):
    made, behind, server = routed
    with Router.load(made.path) as router:
        assert router.waits
        answered = router.predict(columns("UA"))
        assert answered.versions == ("2",)
        np.testing.assert_allclose(answered.values[0, 1], behind.expected("1", ROWS)[0], rtol=1e-5)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        away = router.predict(columns("UA"))
        assert away.versions == ("1",)
        assert away.decisions[0].fallback == "peer_unavailable"
        np.testing.assert_allclose(away.values[0, 1], made.expected("1", ROWS)[0], rtol=1e-5)
    with Router.load(made.path) as router:  # It starts without its peer, too.
        assert router.predict(columns("UA")).decisions[0].fallback == "peer_unavailable"
        assert router.predict(columns("WN")).versions == ("3",)


def test_a_data_plane_in_front_of_a_peer(routed, serving, tmp_path):
    made, behind, peer = routed
    body = {
        "inputs": [
            {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": ROWS[0].tolist()},
            {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
        ]
    }
    with serving.run_server(made.path, tmp_path) as server, server.client() as client:
        for _ in range(60):
            response = client.post("/v2/models/flights/infer", json=body)
            assert response.headers["x-lepton-version"] == "2"
            assert abs(response.json()["outputs"][0]["data"][1] - behind.expected("1", ROWS)[0]) < 1e-5
        # A peer that hangs is not waited for on the event loop.
        peer.process.send_signal(signal.SIGSTOP)
        try:
            waiting = threading.Thread(target=lambda: client.post("/v2/models/flights/infer", json=body))
            waiting.start()
            time.sleep(0.2)
            started = time.monotonic()
            assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
            assert time.monotonic() - started < 1.5
            waiting.join()
            last = client.post("/v2/models/flights/infer", json=body)
            assert last.headers["x-lepton-version"] == "1"
            assert 'cause="timed_out"' in client.get("/metrics").text
        finally:
            peer.process.send_signal(signal.SIGCONT)


def test_a_connection_that_was_closed_while_idle_is_opened_again(serving, tensor_peer, tmp_path):
    made, _ = tensor_peer
    with serving.run_server(made.path, tmp_path) as first:
        port = first.url.rpartition(":")[2]
        connections = Connections(first.url, 4, 2.0)
        assert connections.ask("GET", "/v2/health/live", None, {})[0] == 200
    with pytest.raises(PeerUnavailable):
        connections.ask("GET", "/v2/health/live", None, {})
    launch = [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    second = subprocess.Popen(launch, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                assert connections.ask("GET", "/", None, {})[0] == 200
                break
            except PeerUnavailable:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        second.send_signal(signal.SIGSTOP)
        with pytest.raises(PeerTimedOut):
            connections.ask("GET", "/", None, {})
    finally:
        second.kill()
        second.wait()
        connections.close()


KSERVE = """
import sys
from kserve import Model, ModelServer
from kserve.protocol.infer_type import InferOutput, InferResponse

class Echo(Model):
    def __init__(self):
        super().__init__("echo")
        self.ready = True
    async def get_input_types(self):
        return [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]
    async def get_output_types(self):
        return [{"name": "sum", "datatype": "FP32", "shape": [-1]}]
    def predict(self, request, headers=None):
        rows = request.inputs[0].as_numpy()
        output = InferOutput("sum", list(rows.sum(axis=1).shape), "FP32")
        output.set_data_from_numpy(rows.sum(axis=1), binary_data=False)
        return InferResponse(response_id="1", model_name=self.name, infer_outputs=[output])

ModelServer(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1).start([Echo()])
"""


@pytest.mark.timeout(120)
def test_a_kserve_server_over_both_protocols(tmp_path):
    pytest.importorskip("kserve")
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1], other.getsockname()[1]]
    said = Path(tmp_path / "kserve.txt")
    with said.open("w") as stream:
        process = subprocess.Popen([sys.executable, "-c", KSERVE, *map(str, ports)], stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + 90
        for url in (f"http://127.0.0.1:{ports[0]}", f"grpc://127.0.0.1:{ports[1]}"):
            while True:
                try:
                    folder = describe(url, "echo", tmp_path / url.partition(":")[0])
                    break
                except PeerUnavailable:
                    assert time.monotonic() < deadline, said.read_text()
                    assert process.poll() is None, said.read_text()
                    time.sleep(0.5)
            model, _, _ = load_version(folder, "1")
            np.testing.assert_allclose(model.predict({"X": ROWS}, "value"), ROWS.sum(axis=1), rtol=1e-6)
            model.close()
    finally:
        process.terminate()
        process.wait(30)
