"""The servers that Lepton is measured beside, each with one version of the same ONNX model in one process.

KServe's Python server, MLflow's scoring server and BentoML come from the extra [bench]; one that isn't
installed is left out.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from started import Running, started

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


@contextmanager
def peers(model: Path, home: Path, row: Sequence[float]) -> Iterator[dict[str, Running]]:
    """Those that are installed, ready to answer the row; `model` is an ONNX file that takes `X`."""
    v2 = {"inputs": [{"name": "X", "shape": [1, len(row)], "datatype": "FP32", "data": list(row)}]}
    found: dict[str, Running] = {}
    with ExitStack() as stack:
        if importlib.util.find_spec("kserve"):
            found["kserve"] = stack.enter_context(kserve(model, home, v2))
        if importlib.util.find_spec("mlflow"):
            made = _mlflow_model(model, home)
            found["mlflow"] = stack.enter_context(mlflow(made, home, {"inputs": {"X": [list(row)]}}))
        if importlib.util.find_spec("bentoml"):
            found["bentoml"] = stack.enter_context(bentoml(model, home, {"x": [list(row)]}))
        yield found


def kserve(model: Path, home: Path, body: Any) -> AbstractContextManager[Running]:
    """KServe's Python server of an ONNX file, ready to answer this body."""
    command = [sys.executable, "-c", KSERVE, str(model)]
    return started(lambda port: [*command, str(port)], home, "/v2/models/flights/infer", encoded(body))


def mlflow(made: Path, home: Path, body: Any) -> AbstractContextManager[Running]:
    """MLflow's scoring server of an MLflow model's folder."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(made), "--env-manager", "local"]
    command += ["--workers", "1", "--port"]
    return started(lambda port: [*command, str(port)], home, "/invocations", encoded(body))


def bentoml(model: Path, home: Path, body: Any) -> AbstractContextManager[Running]:
    """A Bento of ten lines over an ONNX file."""
    (home / "bento_service.py").write_text(BENTO)
    command = [sys.executable, "-m", "bentoml", "serve", "bento_service:Linear", "--host", "127.0.0.1", "--port"]
    return started(lambda port: [*command, str(port)], home, "/infer", encoded(body), MODEL_PATH=str(model))


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _mlflow_model(model: Path, home: Path) -> Path:
    import mlflow.onnx
    import onnx

    path = home / "mlflow-model"
    mlflow.onnx.save_model(onnx.load(model), path)
    return path
