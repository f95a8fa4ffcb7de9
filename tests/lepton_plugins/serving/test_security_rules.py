"""The rules that hold for what the data plane is made of, and not for one route: each names what it comes from."""

from __future__ import annotations

import ast
import json
import re
import socket
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest

from lepton_plugins.routing.directory import write_plan
from lepton_plugins.testing.deployment import place_version

ROOT = Path(__file__).parents[3]
SOURCES = [file for part in ("lepton_plugins", "adapters", "policies") for file in sorted((ROOT / part).rglob("*.py"))]
ROW = {"x0": 0.5, "x1": -1.0, "x2": 2.0, "x3": 0.25, "carrier": "UA"}


@cache
def parsed(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def calls(file: Path) -> list[tuple[str, ast.Call]]:
    """Every call in a file, by the last two parts of its name."""
    found = []
    for node in parsed(file):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.append((node.func.id, node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            found.append((f"{owner}.{node.func.attr}", node))
    return found


def imported(file: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in parsed(file):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_no_shell_and_no_code_from_text():
    """MLflow CVE-2026-0596: a model's URI reached `bash -c`."""
    found = set()
    for file in SOURCES:
        for name, call in calls(file):
            shell = any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in call.keywords)
            if shell or name in ("os.system", "os.popen", "eval", "exec", "subprocess.getoutput"):
                found.add(str(file.relative_to(ROOT)))
    # Conditions of a plan, parsed and written anew: names of its own and literals, without builtins.
    assert found == {"policies/lepton_selection/simple_rules.py"}


def test_nothing_is_unpickled_and_no_archive_unpacked_where_bytes_come_from_outside():
    """BentoML CVE-2025-27520, -32375 (pickle on a wire); KServe PRs #4205, #4796, #4975 (extractTarFiles)."""
    # Left out: models that a user trusts, cost measured in a process of one's own, the kit for plugin authors.
    own = {"lepton_mlflow", "evaluation", "testing"}
    wire = [file for file in SOURCES if not own & set(file.parts)]
    used = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "tarfile"}
    assert {str(file.relative_to(ROOT)): sorted(imported(file) & used) for file in wire if imported(file) & used} == {}
    unpacked = [file for file in SOURCES for name, _ in calls(file) if name.endswith((".extractall", "unpack_archive"))]
    assert unpacked == []


def test_a_format_that_carries_code_is_refused_before_any_loader_is_imported(make_deployment, tmp_path):
    """MLflow CVE-2024-37052 … 37060, GHSA-gqvg-gmmx-x4hm: an own allowlist, before a flavour has a say."""
    made = make_deployment(tmp_path / "flights", versions=1)
    folder = made.path / "models" / "pickled"
    folder.mkdir()
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    model_path: model.pkl\n"
        "  sklearn:\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\n"
    )
    touched = tmp_path / "touched"
    payload = f"cbuiltins\nopen\n(V{touched}\nVw\ntR."
    (folder / "model.pkl").write_bytes(payload.encode())
    digest = place_version(folder, made.path)
    update = {"artifact_digest": digest, "backend": "pyfunc", "format": "cloudpickle"}
    plan = made.plan.model_copy(update={"arms": (made.plan.arms[0].model_copy(update=update),)})
    write_plan(plan, {}, made.path)
    code = (
        "import sys\nfrom lepton_plugins.routing.router import Router\n"
        "from lepton_plugins.errors import TrustRequired\n"
        "try:\n    Router.load(sys.argv[1])\nexcept TrustRequired:\n"
        "    print(sorted({'mlflow', 'cloudpickle', 'joblib', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(made.path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
    assert not touched.exists()


@pytest.fixture
def canary():
    """A server that must never be asked."""
    asked: list[Any] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    stop = threading.Event()

    def wait() -> None:
        while not stop.is_set():
            try:
                asked.append(listener.accept()[1])
            except TimeoutError:
                continue

    thread = threading.Thread(target=wait)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    stop.set()
    thread.join()
    listener.close()


def test_nothing_that_a_request_names_is_fetched_opened_or_written(client, server, canary, tmp_path):
    """MLflow CVE-2025-11201 (a request names a model's source), BentoML CVE-2025-54381 (URLs as inputs),
    TorchServe CVE-2023-43654, Triton CVE-2023-31036 (a path to write to).
    """
    url, asked = canary
    target = tmp_path / "written"
    opened = {file.path for file in psutil.Process(server.process.pid).open_files()}
    for name in (f"{url}/model.onnx", f"file://{target}", str(target), "/etc/passwd", f"models:/{url}"):
        inputs = [{"name": f"x{i}", "shape": [1], "datatype": "FP64", "data": [1.0]} for i in range(4)]
        carrier = {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": [name]}
        said = {"model_uri": name, "source": name, "shared_memory_region": name, "path": name}
        for parameters in (said, None):
            body = {"id": name, "parameters": parameters, "inputs": [*inputs, {**carrier, "parameters": parameters}]}
            headers = {"x-lepton-key": name, "x-lepton-version": "2"}
            assert client.post("/v2/models/flights/infer", json=body, headers=headers).status_code < 500
        record = {"dataframe_records": [{**ROW, "carrier": name}]}
        bodies = (record, {"instances": name}, {"inputs": {"url": name}}, said)
        for other in bodies:
            for path in ("/invocations", "/v1/models/flights:predict", "/lepton/explain", "/lepton/feedback"):
                answer = client.post(path, json=other, params={"source": name})
                assert answer.status_code < 500
                assert "root:" not in answer.text
        for verb in ("load", "unload", "index"):
            assert client.post(f"/v2/repository/models/{verb}", json={"parameters": said}).status_code == 404
    assert asked == []
    assert not target.exists()
    later = {file.path for file in psutil.Process(server.process.pid).open_files()}
    assert not [path for path in later - opened if "passwd" in path or str(tmp_path) in path]


def test_a_token_opens_its_own_model_only(deployment, start_server, tmp_path):
    """KServe CVE-2024-7557: a token for one model opened another's."""
    token = "a-token-of-enough-length"
    with start_server(deployment.path, tmp_path, token=token) as server, server.client() as client:
        client.headers["authorization"] = f"Bearer {token}"
        body = json.dumps({"inputs": []})
        assert client.get("/v2/models/flights/versions/2").status_code == 200
        for path in ("/v2/models/others/versions/2", "/v2/models/flights%2f..%2fothers"):
            assert client.get(path).status_code in (400, 404)
        assert client.post("/v2/models/others/versions/2/infer", content=body).status_code == 404
        client.headers["authorization"] = "Bearer another-token-of-length"
        assert client.get("/v2/models/flights/versions/2").status_code == 401


@pytest.mark.parametrize("workers", [1, 2])
def test_every_port_is_bound_to_the_address_that_was_named(deployment, start_server, tmp_path, workers):
    """TorchServe CVE-2024-35199: gRPC listened on all interfaces."""
    with start_server(deployment.path, tmp_path, grpc_port=0, workers=workers) as server:
        parent = psutil.Process(server.process.pid)
        processes = {parent.pid, *(child.pid for child in parent.children(recursive=True))}
        listening = [one for one in psutil.net_connections("inet") if one.status == psutil.CONN_LISTEN]
        bound = {one.laddr.ip.removeprefix("::ffff:") for one in listening if one.pid in processes}
        assert bound == {"127.0.0.1"}
        assert re.search(r"and 127\.0\.0\.1:\d+ \(gRPC\)", server.said)
