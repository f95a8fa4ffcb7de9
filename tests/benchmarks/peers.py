"""The servers that Lepton is measured beside, each with one version of the same ONNX model in one process.

KServe's Python server, MLflow's scoring server and BentoML come from the extra [bench]; one that isn't
installed is left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

KSERVE = """
import sys
path, port = sys.argv[1:]
sys.argv = ["kserve", "--http_port", port, "--enable_grpc", "false", "--enable_latency_logging", "false"]
import kserve, numpy, onnxruntime
from kserve import InferOutput, InferResponse, Model, ModelServer

class Linear(Model):
    def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)
        self.ready = True
        return True

    def predict(self, payload, headers=None, response_headers=None):
        x = payload.inputs[0].as_numpy()
        y = self.session.run(["probabilities"], {"X": x})[0]
        output = InferOutput("proba", list(y.shape), "FP32")
        output.set_data_from_numpy(y, binary_data=payload.use_binary_outputs)
        return InferResponse(payload.id or "1", "flights", [output])

model = Linear("flights")
model.load()
ModelServer().start([model])
"""

BENTO = """
import bentoml, numpy, onnxruntime, os

@bentoml.service(workers=1, metrics={"enabled": True})
class Linear:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL_PATH"], options)

    @bentoml.api(route="/infer")
    def infer(self, x: numpy.ndarray) -> numpy.ndarray:
        return self.session.run(["probabilities"], {"X": x.astype(numpy.float32)})[0]
"""


class Peer(NamedTuple):
    url: str
    path: str
    body: bytes


@contextmanager
def peers(model: Path, home: Path, row: Sequence[float]) -> Iterator[dict[str, Peer]]:
    """Those that are installed, ready to answer the row; `model` is an ONNX file that takes `X`."""
    v2 = {"inputs": [{"name": "X", "shape": [1, len(row)], "datatype": "FP32", "data": list(row)}]}
    found: dict[str, Peer] = {}
    with ExitStack() as stack:
        if importlib.util.find_spec("kserve"):
            found["kserve"] = stack.enter_context(kserve(model, home, json.dumps(v2).encode()))
        if importlib.util.find_spec("mlflow"):
            port = _free_port()
            command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(_mlflow_model(model, home))]
            command += ["--env-manager", "local", "--port", str(port), "--workers", "1"]
            body = json.dumps({"inputs": {"X": [list(row)]}}).encode()
            found["mlflow"] = stack.enter_context(_run(command, port, "/invocations", body, home))
        if importlib.util.find_spec("bentoml"):
            port = _free_port()
            (home / "bento_service.py").write_text(BENTO)
            command = [sys.executable, "-m", "bentoml", "serve", "bento_service:Linear", "--port", str(port)]
            command += ["--host", "127.0.0.1"]
            body = json.dumps({"x": [list(row)]}).encode()
            found["bentoml"] = stack.enter_context(_run(command, port, "/infer", body, home, MODEL_PATH=str(model)))
        yield found


def kserve(model: Path, home: Path, body: bytes) -> AbstractContextManager[Peer]:
    """KServe's Python server, ready to answer this body."""
    port = _free_port()
    return _run([sys.executable, "-c", KSERVE, str(model), str(port)], port, "/v2/models/flights/infer", body, home)


def _mlflow_model(model: Path, home: Path) -> Path:
    import mlflow.onnx
    import onnx

    path = home / "mlflow-model"
    mlflow.onnx.save_model(onnx.load(model), path)
    return path


@contextmanager
def _run(command: Sequence[str], port: int, path: str, body: bytes, home: Path, **more: str) -> Iterator[Peer]:
    # MLflow starts uvicorn by its name.
    more["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "BENTOML_DO_NOT_TRACK": "true"}
    log = home / f"peer-{port}.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, cwd=home, env={**os.environ, **quiet, **more}, start_new_session=True
        )
    peer = Peer(f"http://127.0.0.1:{port}", path, body)
    try:
        _wait(peer, process, log)
        yield peer
    finally:
        # A session of its own: its workers end with it.
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def _wait(peer: Peer, process: subprocess.Popen[bytes], log: Path) -> None:
    answer = "nothing"
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            response = httpx.post(
                peer.url + peer.path, content=peer.body, headers={"content-type": "application/json"}, timeout=10
            )
            if response.status_code == 200:
                return
            answer = response.text
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{peer.url} isn't ready ({answer[:500]}): {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
