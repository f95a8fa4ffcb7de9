"""Starting, weight and end of a real server process."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

HEAVY = ("mlflow", "pandas", "evidently", "torch", "scipy", "sklearn", "pyarrow", "matplotlib", "bentoml", "kserve")
ROW = {"x0": 0.5, "x1": -1.0, "x2": 2.0, "x3": 0.25, "carrier": "UA"}


def serve_command(source: Path, *options: str, python: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *python, "-m", "lepton_plugins.cli.main", "serve", str(source), "--port", "0", *options]


#: Calls of functions until what is started tells that it serves: the same at every run, on any machine, however busy.
COUNTED = """
import cProfile, os, sys
profile = cProfile.Profile()

def told():
    profile.disable()
    os.write(1, str(sum(entry.callcount for entry in profile.getstats())).encode())
    os._exit(0)

class Output:
    def write(self, text):
        if text.startswith("lepton serves"):
            told()

    def flush(self):
        pass

sys.stdout = Output()
profile.enable()
"""
#: What a server can't do without.
NEEDED = "import numpy, onnxruntime, prometheus_client, pydantic, starlette.applications, typer, uvicorn\n"


def calls_of(program: str) -> int:
    done = subprocess.run([sys.executable, "-c", COUNTED + program], capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    return int(done.stdout)


def test_a_start_does_little_beyond_importing_what_it_needs(deployment, tmp_path):
    """Seconds are for tests/benchmarks/startup.py; this fails where a start has a fifth more to do."""
    arguments = serve_command(deployment.path, "--decisions", str(tmp_path / "log"))[3:]
    start = calls_of(f"from lepton_plugins.cli.main import main\nmain({arguments})")
    needed = calls_of(f"{NEEDED}told()")
    print(f"{start} calls, {needed} of them for imports alone")
    assert start <= 3.0 * needed


def test_three_onnx_versions_are_light(deployment, start_server, tmp_path):
    command = serve_command(deployment.path, "--decisions", (tmp_path / "decisions").as_uri())
    with start_server(deployment.path, tmp_path, command=command) as server, server.client() as client:
        for path in ("/v2/health/ready", "/metrics"):
            assert client.get(path).status_code == 200
        for carrier in ("AA", "UA", "WN"):
            body = {"dataframe_records": [{**ROW, "carrier": carrier}]}
            assert client.post("/invocations", json=body).status_code == 200
        resident = psutil.Process(server.process.pid).memory_info().rss / 2**20
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert not [name for name in HEAVY if f"site-packages/{name}/" in mapped]
    assert resident <= 130


def test_no_heavy_package_is_imported(deployment, start_server, tmp_path):
    command = serve_command(deployment.path, "--decisions", str(tmp_path / "log"), python=("-X", "importtime"))
    with start_server(deployment.path, tmp_path, command=command) as server, server.client() as client:
        assert client.post("/invocations", json={"dataframe_records": [ROW] * 3}).status_code == 200
        assert client.get("/metrics").status_code == 200
    imported = set(re.findall(r"\|\s+([\w.]+)$", server.errors.read_text(), re.MULTILINE))
    assert "onnxruntime" in imported
    assert len(imported) <= 740
    assert not imported & set(HEAVY)


def test_a_taken_port_is_one_clear_error(deployment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", str(deployment.path), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_directory_that_cannot_be_served_is_one_clear_error(make_deployment, tmp_path):
    made = make_deployment(tmp_path / "flights")
    plan = made.path / "plan.json"
    plan.write_bytes(plan.read_bytes().replace(b"segment_best", b"segment_best ", 1))
    done = subprocess.run(serve_command(made.path), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_requests_in_flight(deployment, start_server, tmp_path, number):
    rows = json.dumps({"dataframe_records": [ROW] * 60_000}).encode()
    answers: list[int] = []

    def ask(url: str) -> None:
        headers = {"content-type": "application/json"}
        answers.append(httpx.post(f"{url}/invocations", content=rows, headers=headers, timeout=60).status_code)

    with start_server(deployment.path, tmp_path) as server:
        asking = threading.Thread(target=ask, args=(server.url,))
        asking.start()
        with server.client() as client:
            deadline = time.monotonic() + 20
            while 'lepton_requests_in_flight{model="flights"} 1.0' not in client.get("/metrics").text:
                assert time.monotonic() < deadline
                if answers:
                    break
        server.process.send_signal(number)
        asking.join()
        assert server.process.wait(30) == 0
    assert answers == [200]
    assert "Traceback" not in server.errors.read_text()


def test_too_many_at_once_are_told_to_come_back(deployment, start_server, tmp_path):
    rows = json.dumps({"dataframe_records": [ROW] * 20_000}).encode()
    limits = {"queued": 1}
    codes: list[int] = []

    def ask(url: str) -> None:
        headers = {"content-type": "application/json"}
        response = httpx.post(f"{url}/invocations", content=rows, headers=headers, timeout=60)
        codes.append(response.status_code)
        if response.status_code == 503:
            assert response.json()["code"] == "overloaded"
            assert response.headers["retry-after"] == "1"

    with start_server(deployment.path, tmp_path, limits=limits, call_threads=1) as server:
        threads = [threading.Thread(target=ask, args=(server.url,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        with server.client() as client:
            # Long calls run aside: the loop goes on answering.
            started = time.monotonic()
            assert client.get("/v2/health/live").status_code == 200
            assert time.monotonic() - started < 5
        for thread in threads:
            thread.join()
    assert set(codes) == {200, 503}
