"""Several processes on one address: the numbers are right across them, whoever dies, and plans reach them all."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from lepton_plugins.serving import workers
from lepton_plugins.serving.counts import Counts, read_counts
from lepton_plugins.serving.grpc_messages import SERVICE, message
from lepton_plugins.serving.pointer import Hold, write_pointer

ROW = {"x0": 0.5, "x1": -1.0, "x2": 2.0, "x3": 0.25, "carrier": "UA"}
BODY = {"dataframe_records": [ROW]}

#: A connection for each request: so that all workers get some.
CLIENT = httpx.Client(timeout=60, headers={"connection": "close"})


def until(said, seconds: float = 15):
    deadline = time.monotonic() + seconds
    while not (result := said()):
        assert time.monotonic() < deadline, "it didn't come to pass"
        time.sleep(0.05)
    return result


def total(url: str, name: str, **of: str) -> float:
    """A metric, summed over the labels that aren't named."""
    found = 0.0
    for line in CLIENT.get(f"{url}/metrics").text.splitlines():
        match = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line)
        if match and match[1] == name and all(f'{key}="{value}"' in match[2] for key, value in of.items()):
            found += float(match[3])
    return found


def ask(url: str, times: int) -> None:
    for _ in range(times):
        assert CLIENT.post(f"{url}/invocations", json=BODY).status_code == 200


@pytest.fixture(scope="module")
def served(deployment, start_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    with start_server(deployment.path, folder, workers=2, decisions=str(folder / "decisions"), grpc_port=0) as server:
        yield server, folder


def test_metrics_and_decisions_are_those_of_all_workers(served):
    server, folder = served
    assert "2 workers" in server.said
    assert len(psutil.Process(server.process.pid).children()) == 2
    before = total(server.url, "lepton_requests_total", code="200")
    threads = [threading.Thread(target=ask, args=(server.url, 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whichever worker is asked; a request is counted when its answer is on its way.
    until(lambda: {total(server.url, "lepton_requests_total", code="200") - before for _ in range(8)} == {80.0})
    assert total(server.url, "lepton_request_duration_seconds_count") >= 80
    assert until(lambda: total(server.url, "lepton_workers") == 2)
    identity = CLIENT.post(f"{server.url}/invocations", json=BODY).headers["x-lepton-decision"]
    for _ in range(4):  # Feedback finds the decision, whoever made it, and counts once.
        receipt = CLIENT.post(f"{server.url}/lepton/feedback", json={"decision": identity, "reward": 1.0}).json()
        assert receipt["unknown"] == []
    assert total(server.url, "lepton_feedback_total", result="stored") == 1
    assert total(server.url, "lepton_feedback_total", result="duplicate") == 3
    writers = until(lambda: len(list((folder / "decisions").glob("decisions-*.jsonl"))) == 2)
    assert writers


def test_a_worker_that_is_killed_is_replaced_and_its_counts_stay(served):
    server, _ = served
    ask(server.url, 10)
    time.sleep(0.2)
    before = total(server.url, "lepton_requests_total", code="200")
    victim, other = psutil.Process(server.process.pid).children()
    victim.kill()
    ask(server.url, 10)  # The other one answers.
    until(lambda: total(server.url, "lepton_requests_total", code="200") == before + 10)
    until(lambda: len(psutil.Process(server.process.pid).children()) == 2)
    assert other.is_running()
    until(lambda: total(server.url, "lepton_workers") == 2)
    ask(server.url, 10)
    until(lambda: {total(server.url, "lepton_requests_total", code="200") for _ in range(8)} == {before + 20})


def test_grpc_reaches_the_workers_on_one_port(served):
    server, _ = served
    for _ in range(4):
        with grpc.insecure_channel(server.grpc_address) as channel:
            ready = channel.unary_unary(
                f"/{SERVICE}/ModelReady",
                request_serializer=message("ModelReadyRequest").SerializeToString,
                response_deserializer=message("ModelReadyResponse").FromString,
            )
            assert ready(message("ModelReadyRequest")(name="flights"), timeout=10).ready


def test_a_plan_reaches_every_worker_within_three_seconds(make_deployment, start_server, tmp_path):
    state = tmp_path / "state"
    names, plans = [], []
    for seed in range(2):
        built = make_deployment(tmp_path / f"built-{seed}", seed=seed)
        name = f"revisions/{built.plan.digest.removeprefix('sha256:')}"
        shutil.copytree(built.path, state / name)
        names.append(name)
        plans.append(built.plan.digest)
    write_pointer(state, names[0])
    failed: list[str] = []
    stop = threading.Event()

    def load(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not stop.is_set():
                response = client.post("/invocations", json=BODY)
                if response.status_code != 200:
                    failed.append(response.text)

    with start_server(state, tmp_path, workers=2) as server:
        threads = [threading.Thread(target=load, args=(server.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for turn in (1, 0):
            write_pointer(state, names[turn])
            started = time.monotonic()
            until(lambda wanted=plans[turn]: total(server.url, "lepton_workers", digest=wanted) == 2, 3)
            assert time.monotonic() - started < 3
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []


def test_what_is_in_flight_is_answered_before_they_end(deployment, start_server, tmp_path):
    answers: list[int] = []
    rows = {"dataframe_records": [ROW] * 60_000}

    def long(url: str) -> None:
        answers.append(CLIENT.post(f"{url}/invocations", json=rows).status_code)

    with start_server(deployment.path, tmp_path, workers=2) as server:
        workers = psutil.Process(server.process.pid).children()
        asking = threading.Thread(target=long, args=(server.url,))
        asking.start()
        until(lambda: answers or total(server.url, "lepton_requests_in_flight") > 0)
        server.process.send_signal(signal.SIGTERM)
        asking.join()
        assert server.process.wait(30) == 0
        assert not [worker for worker in workers if worker.is_running()]
    assert answers == [200]
    assert "Traceback" not in server.errors.read_text()


def test_workers_end_with_a_parent_that_is_killed(deployment, start_server, tmp_path):
    with start_server(deployment.path, tmp_path, workers=2) as server:
        workers = psutil.Process(server.process.pid).children()
        server.process.kill()
        assert psutil.wait_procs(workers, timeout=20)[1] == []


def test_a_unix_socket_and_tls(deployment, start_server, tmp_path):
    path = tmp_path / "lepton.sock"
    with start_server(deployment.path, tmp_path, workers=2, host=str(path)):
        closing = {"connection": "close"}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), headers=closing) as client:
            for _ in range(6):
                assert client.post("http://localhost/invocations", json=BODY).status_code == 200
    assert not path.exists()
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    with start_server(deployment.path, tmp_path, workers=2, certificate=str(certificate), key=str(key)) as server:
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=trusted, headers={"connection": "close"}) as client:
            for _ in range(6):
                assert client.post(f"{server.url}/invocations", json=BODY).status_code == 200


def test_what_no_worker_can_serve_is_one_clear_error(make_deployment, tmp_path):
    made = make_deployment(tmp_path / "flights")
    model = next((made.path / "models").rglob("model.onnx"))
    model.write_bytes(model.read_bytes() + b"x")
    command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", str(made.path), "--workers", "2"]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert "digest" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_grpc_port_is_told_before_anything_starts(deployment, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", str(deployment.path), "--workers", "2"]
        command += ["--port", "0", "--grpc-port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert "gRPC port" in done.stderr


def test_counts_go_on_where_another_process_stopped(tmp_path):
    file = Path(tmp_path) / "0.counts"
    first = Counts(file, frozenset({"now"}))
    for number in range(500):
        first.add(("requests", f"version {number % 50}"))
    first.set(("now",), 7)
    second = Counts(file, frozenset({"now"}))
    second.add(("requests", "version 0"), 5)
    second.add(("requests", "é"))
    found = read_counts(file)
    assert found == second.read()
    assert (found["requests", "version 0"], found["requests", "é"], found["now",]) == (15, 1, 0)


def test_what_a_killed_server_counted_in_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_MEMORY", tmp_path)
    monkeypatch.setattr(workers, "_YOUNG", 0.0)
    running = workers._shared_folder()
    hold = Hold(running)
    (running / "0.counts").touch()
    assert workers._shared_folder() != running
    assert (running / "0.counts").exists(), "its server runs"
    hold.release()
    another = workers._shared_folder()
    assert [*tmp_path.iterdir()] == [another]
