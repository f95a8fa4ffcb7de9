"""KServe's own ModelServer, in processes of its own: the router as its model, and a transformer before it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lepton_plugins.errors import NoVersionAnswered
from lepton_plugins.routing.router import Router

TOKEN = "a-token-of-the-test"
MODEL = """
import sys
from kserve import ModelServer
from lepton_kserve.model import RouterModel

directory, port, grpc, log = sys.argv[1:]
sys.argv[1:] = []
ModelServer(http_port=int(port), grpc_port=int(grpc)).start([RouterModel(directory, decisions=log)])
"""
TRANSFORMER = """
import sys
from kserve import ModelServer
from kserve.predictor_config import PredictorConfig
from lepton_kserve.transformer import RouterTransformer

class Doubling(RouterTransformer):
    async def preprocess(self, payload, headers=None):
        return {"instances": [{**row, "x": 2 * row["x"]} for row in payload["instances"]]}

predictor, port = sys.argv[1:]
sys.argv[1:] = []
config = PredictorConfig(predictor)
ModelServer(http_port=int(port), enable_grpc=False, predictor_config=config).start([Doubling("line")])
"""
X, UNITS = [0.0, 1.0, 2.0, 3.0], list("abcd")
ROWS = [{"x": x, "unit": unit} for x, unit in zip(X, UNITS, strict=True)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model-server") / "decisions"


@pytest.fixture(scope="module")
def model_server(bare_environment: Any, deployment: Path, log: Path, free_port: Any) -> Iterator[tuple[str, int]]:
    http, grpc = free_port(), free_port()
    command = [sys.executable, "-c", MODEL, str(deployment), str(http), str(grpc), f"file://{log}"]
    url = f"http://127.0.0.1:{http}"
    with bare_environment.serving(command, f"{url}/v2/health/ready", log.parent, {"LEPTON_TOKEN": TOKEN}):
        yield url, grpc


@pytest.fixture(scope="module")
def expected(deployment: Path) -> Any:
    with Router.load(deployment) as router:
        return router.predict({"x": np.array(X), "unit": np.array(UNITS, dtype=object)})


def _tensors(kserve: Any, **more: Any) -> Any:
    inputs = [kserve.InferInput("x", [4], "FP32"), kserve.InferInput("unit", [4], "BYTES")]
    inputs[0].set_data_from_numpy(np.array(X, dtype=np.float32), binary_data=more.get("binary", False))
    inputs[1].set_data_from_numpy(np.array(UNITS, dtype=object), binary_data=more.get("binary", False))
    return kserve.InferRequest(model_name="line", infer_inputs=inputs)


@pytest.fixture
def kserve(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", ["kserve"])  # Importing it parses the command line.
    return pytest.importorskip("kserve")


def test_kserves_clients_get_the_routers_answers(model_server: Any, expected: Any, kserve: Any) -> None:
    from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig

    url, port = model_server
    versions = ",".join(decision.served for decision in expected.decisions)

    async def talk() -> list[Any]:
        v2, v1 = (InferenceRESTClient(RESTConfig(protocol=protocol)) for protocol in ("v2", "v1"))
        plain = await v2.infer(url, _tensors(kserve), model_name="line")
        binary = await v2.infer(url, _tensors(kserve, binary=True), model_name="line")
        grpc = InferenceGRPCClient(f"127.0.0.1:{port}")
        over_grpc = await grpc.infer(_tensors(kserve, binary=True))
        await grpc.close()
        return [plain, binary, over_grpc, await v1.infer(url, {"instances": ROWS}, model_name="line")]

    *by_v2, by_v1 = asyncio.run(talk())
    np.testing.assert_allclose(by_v1["predictions"], expected.values, atol=1e-6)
    for answer in by_v2:
        np.testing.assert_allclose(answer.outputs[0].as_numpy().ravel(), expected.values, atol=1e-6)
    assert by_v2[0].outputs[0].parameters["lepton_versions"] == versions
    assert by_v2[0].parameters["lepton_policy"] == "weighted"
    assert by_v2[0].parameters["lepton_version"] == "mixed"


def test_the_header_is_the_key_and_headers_say_who_answered(model_server: Any, deployment: Path, log: Path) -> None:
    url, _ = model_server
    with Router.load(deployment) as router:
        arms = {key: router.decide({"x": 1.0}, key=key).served for key in map(str, range(12))}
    assert set(arms.values()) == {"1", "2"}
    for key, version in arms.items():
        body = {"instances": [{"x": 1.0}]}
        answer = httpx.post(f"{url}/v1/models/line:predict", json=body, headers={"x-lepton-key": key})
        assert answer.headers["x-lepton-version"] == version
        assert answer.headers["x-lepton-decision"].endswith("/0")
        tensor = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
        infer = httpx.post(f"{url}/v2/models/line/infer", json=tensor, headers={"x-lepton-key": key})
        assert infer.headers["x-lepton-version"] == infer.json()["model_version"] == version
        assert infer.json()["parameters"]["lepton_decision"] == infer.headers["x-lepton-decision"]


def test_it_keeps_its_decisions_and_ends_well(
    bare_environment: Any, deployment: Path, tmp_path: Path, free_port: Any
) -> None:
    port, grpc = free_port(), free_port()
    command = [sys.executable, "-c", MODEL, str(deployment), str(port), str(grpc), f"file://{tmp_path}/decisions"]
    url = f"http://127.0.0.1:{port}"
    with bare_environment.serving(command, f"{url}/v2/health/ready", tmp_path):
        answer = httpx.post(f"{url}/v1/models/line:predict", json={"instances": ROWS})
    kept = "".join(file.read_text() for file in sorted((tmp_path / "decisions").rglob("*.jsonl")))
    assert answer.headers["x-lepton-decision"] in kept


def test_naming_a_version_needs_the_token(model_server: Any) -> None:
    url, _ = model_server
    body, forced = {"instances": [{"x": 1.0, "unit": "a"}]}, {"x-lepton-version": "2"}
    refused = httpx.post(f"{url}/v1/models/line:predict", json=body, headers=forced)
    assert refused.status_code == 401
    assert "Traceback" not in refused.text
    forced["authorization"] = f"Bearer {TOKEN}"
    answer = httpx.post(f"{url}/v1/models/line:predict", json=body, headers=forced)
    assert answer.headers["x-lepton-version"] == "2"
    assert answer.json() == {"predictions": [2.0]}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/v1/models/line:predict", {"instances": [{"x": "far"}]}, "expected"),
        ("/v1/models/line:predict", {"instances": [{"y": 1.0}]}, "x"),
        ("/v1/models/line:predict", {"rows": []}, "instances"),
        (
            "/v2/models/line/infer",
            {"inputs": [{"name": "z", "shape": [1], "datatype": "FP32", "data": [1.0]}]},
            "z",
        ),
    ],
)
def test_bad_input_is_one_clear_400(path: str, body: Any, told: str, model_server: Any) -> None:
    answer = httpx.post(model_server[0] + path, json=body)
    assert answer.status_code == 400
    assert told in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_headers_pass_a_transformer_both_ways(
    model_server: Any, bare_environment: Any, deployment: Path, log: Path, free_port: Any
) -> None:
    port = free_port()
    command = [sys.executable, "-c", TRANSFORMER, model_server[0].removeprefix("http://"), str(port)]
    url = f"http://127.0.0.1:{port}"
    (log.parent / "transformer").mkdir()
    with (
        bare_environment.serving(command, f"{url}/v2/health/live", log.parent / "transformer"),
        Router.load(deployment) as router,
    ):
        for key in map(str, range(6)):
            answer = httpx.post(
                f"{url}/v1/models/line:predict", json={"instances": [{"x": 1.0}]}, headers={"x-lepton-key": key}
            )
            decided = router.decide({"x": 2.0}, key=key)
            assert answer.headers["x-lepton-version"] == decided.served
            assert answer.headers["x-lepton-decision"]
            assert answer.json() == {"predictions": [{"1": 5.0, "2": 5.0}[decided.served]]}


def test_what_may_be_asked_again_later_is_no_failure() -> None:
    from kserve.errors import InferenceError

    from lepton_kserve.model import _as_kserve

    away = _as_kserve(NoVersionAnswered([("1", "peer_unavailable")], 503, "0f3c"))
    assert (away.status_code, away.headers) == (503, {"retry-after": "1"})  # type: ignore[attr-defined]
    assert "version 1 (peer_unavailable)" in away.detail  # type: ignore[attr-defined]
    assert isinstance(_as_kserve(NoVersionAnswered([("1", "model_failed")], None, "0f3c")), InferenceError)
