"""The bento: built and served without Lepton beside it, its data plane mounted, its typed endpoints."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
import pytest
import yaml

from lepton_plugins.generate import generate
from lepton_plugins.routing.router import Router

TOKEN = "a-token-of-the-secret"


class Bento(NamedTuple):
    url: str
    folder: Path
    project: Path
    decisions: Path


@pytest.fixture(scope="module")
def bento(
    deployment: Path, bare_environment: Any, free_port: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bento]:
    """Built and served without Lepton beside it, and without a way to a package index."""
    pytest.importorskip("bentoml")
    folder = tmp_path_factory.mktemp("bento")
    generate(deployment, "bentoml", folder / "project", {"memory": "512Mi", "cpu": "500m", "max_concurrency": "32"})
    env = bare_environment.env | {"BENTOML_HOME": str(folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    env |= {"PIP_NO_INDEX": "1", "UV_OFFLINE": "1", "LEPTON_TOKEN": TOKEN}
    env |= {"LEPTON_DECISIONS": f"file://{folder}/decisions"}
    bentoml = [bare_environment.python, "-m", "bentoml"]
    build = [*bentoml, "build", "service:Router", "--version", "t1"]
    done = subprocess.run(build, cwd=folder / "project", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    # As in the image: the bento with its models inside, and no store beside it.
    inside = folder / "inside"
    shutil.copytree(folder / "home" / "bentos" / "line-router" / "t1", inside)
    shutil.copytree(folder / "home" / "models", inside / "models")
    env["BENTOML_HOME"] = str(folder / "empty")
    url = f"http://127.0.0.1:{(port := free_port())}"
    serve = [*bentoml, "serve", str(inside), "--host", "127.0.0.1", "--port", str(port)]
    with bare_environment.serving(serve, f"{url}/readyz", folder, env):
        yield Bento(url, inside, folder / "project", folder / "decisions")


def test_the_typed_endpoints_send_each_row_where_the_router_does(bento: Bento, rows: pd.DataFrame, agree: Any) -> None:
    """Asked by BentoML's own client, which knows the types from the service."""
    import bentoml

    with bentoml.SyncHTTPClient(bento.url) as client:
        table = client.decide(rows=rows)
    agree(list(table["lepton_version"]), list(table["prediction"]))


def test_the_mounted_data_plane_sends_each_row_where_the_router_does(bento: Bento, agree_over_v2: Any) -> None:
    agree_over_v2(bento.url)


def test_the_bento_lists_its_models_and_carries_them_once(bento: Bento, deployment: Path) -> None:
    (service,) = yaml.safe_load((bento.folder / "bento.yaml").read_text())["services"]
    digests = sorted(path.name[:40] for path in (deployment / "models").iterdir())
    assert sorted(model["tag"] for model in service["models"]) == [f"line:{digest}" for digest in digests]
    assert service["config"]["resources"] == {"memory": "512Mi", "cpu": "500m"}
    assert service["config"]["traffic"] == {"timeout": 60.0, "max_concurrency": 32}
    assert service["config"]["workers"] == 1
    assert not list((bento.folder / "src").rglob("*.onnx"))


def test_the_dockerfile_that_the_build_writes(bento: Bento) -> None:
    text = (bento.folder / "env" / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            word, _, rest = line.strip().partition(" ")
            found.setdefault(word, []).append(" ".join(rest.split()))
    assert re.fullmatch(rf"python:{platform.python_version()}-slim AS \S+", found["FROM"][0])
    assert found["USER"][-1] == "bentoml"
    assert any(
        line.endswith("uv --directory $INSTALL_ROOT pip install -r $BENTO_PATH/env/python/requirements.txt")
        for line in found["RUN"]
    )
    assert "--chown=bentoml:bentoml . ./" in found["COPY"], "with it the packages and the models"
    instructions = " ".join(line for lines in found.values() for line in lines)
    assert "index-url" not in instructions
    assert "://" not in instructions
    pinned = (bento.folder / "env" / "python" / "requirements.txt").read_text().splitlines()
    packages = {line.partition("==")[0] for line in pinned}
    assert packages >= {
        "bentoml",
        "onnxruntime",
        "numpy",
        "pandas",
        "starlette",
        "mlflow",
        "scikit-learn",
        "skops",
        "uv",
    }
    assert all(re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\w.!+-]+", line) for line in pinned)
    assert (bento.folder / "src" / "packages" / "lepton_plugins").is_dir()


def test_the_services_openapi_is_typed_by_the_plan(bento: Bento) -> None:
    document = httpx.get(f"{bento.url}/docs.json", timeout=30).json()

    def body(path: str) -> Any:
        return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]

    row = {
        "type": "object",
        "properties": {"x": {"type": "number"}, "unit": {"type": "string"}, "carrier": {"type": "string"}},
        "required": ["x"],
    }
    for path in ("/predict", "/decide", "/predict_batch"):
        assert {**body(path)["rows"], "title": ""} == {"type": "array", "items": row, "title": ""}
    array = body("/predict_array")
    assert array["rows"]["items"] == {"type": "array", "items": {"type": "number"}}
    assert array["keys"]["items"] == {"type": "string"}
    assert httpx.get(f"{bento.url}/", timeout=30).headers["content-type"].startswith("text/html")


def test_bentomls_client_asks_with_frames_arrays_and_lists(bento: Bento, rows: pd.DataFrame, routed: Any) -> None:
    import bentoml

    some = rows.head(40)
    with bentoml.SyncHTTPClient(bento.url) as client:
        np.testing.assert_allclose(client.predict(rows=some), routed.values[:40], atol=1e-6)
        np.testing.assert_allclose(client.predict_batch(rows=some.to_dict("records")), routed.values[:40], atol=1e-6)
        by_key = client.predict_array(rows=some[["x"]].to_numpy(), keys=list(some["unit"]))
    with Router.load(bento.project / "deployment") as router:
        np.testing.assert_allclose(by_key, router.predict(some[["x", "unit"]]).values, atol=1e-6)


def test_bentos_batches_of_many_callers_go_where_each_row_would(bento: Bento, rows: pd.DataFrame, routed: Any) -> None:
    """And what doesn't fit is refused alone, not with those that it would have been answered with."""
    records = json.loads(rows.to_json(orient="records", double_precision=15))

    def ask(index: int) -> httpx.Response:
        body = [{"unit": "a"}] if index % 10 == 9 else records[index : index + 1]
        return client.post("/predict_batch", json={"rows": body})

    with httpx.Client(base_url=bento.url, timeout=60) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(80)))
    for index, answer in enumerate(answers):
        assert answer.status_code == (400 if index % 10 == 9 else 200), answer.text
        if index % 10 != 9:
            np.testing.assert_allclose(answer.json(), routed.values[index], atol=1e-6)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/predict", {"rows": [{"unit": "a"}]}, "Input 'x' is missing"),
        ("/predict", {"rows": [{"x": "one"}]}, "Input 'x': found"),
        ("/decide", {"rows": [{"x": 1.0, "carier": "AA"}]}, "Did you mean 'carrier'?"),
        ("/predict", {"rows": 5}, "expected a list of objects by name"),
        ("/predict_array", {"rows": [[1.0, 2.0]]}, "Found an array of shape (1, 2)"),
        ("/predict_array", {"rows": [["a"]]}, "could not convert"),
        ("/predict_array", {"rows": [[1.0]], "keys": ["a", "b"]}, "found 2 rows; expected 1"),
    ],
)
def test_the_typed_endpoints_say_what_does_not_fit(path: str, body: Any, said: str, bento: Bento) -> None:
    answer = httpx.post(bento.url + path, json=body, timeout=30)
    assert answer.status_code == 400
    assert said in json.dumps(answer.json(), ensure_ascii=False)


def test_the_typed_endpoints_keep_the_data_planes_rules(bento: Bento, rows: pd.DataFrame) -> None:
    record = {"x": 1.0, "carrier": "UA"}
    answer = httpx.post(f"{bento.url}/predict", json={"rows": [record]}, headers={"x-lepton-key": "a"}, timeout=30)
    assert answer.headers["x-lepton-version"] == "2"
    force = {"x-lepton-version": "1"}
    assert httpx.post(f"{bento.url}/predict", json={"rows": [record]}, headers=force, timeout=30).status_code == 401
    force["authorization"] = f"Bearer {TOKEN}"
    forced = httpx.post(f"{bento.url}/decide", json={"rows": [record]}, headers=force, timeout=30).json()
    assert [(row["lepton_version"], row["prediction"]) for row in forced] == [("1", 3.0)]
    feedback = [{"decision": forced[0]["lepton_decision"], "reward": 1.0}]
    told = httpx.post(f"{bento.url}/lepton/feedback", json=feedback, headers=force, timeout=30)
    assert told.json()["stored"] == 1, "a native answer's decision is in the log"
    assert httpx.get(f"{bento.url}/lepton/plan", timeout=30).status_code == 401
    assert "lepton_requests_total" in httpx.get(f"{bento.url}/lepton/metrics", timeout=30).text
    assert any(bento.decisions.iterdir())


def test_two_workers_count_and_find_each_others_decisions(
    deployment: Path, bare_environment: Any, free_port: Any, tmp_path: Path
) -> None:
    """Whichever is asked for metrics says what both answered; feedback comes to the one that didn't decide."""
    generate(deployment, "bentoml", tmp_path / "project", {"workers": "2"})
    url = f"http://127.0.0.1:{(port := free_port())}"
    serve = [bare_environment.python, "-m", "bentoml", "serve", "service:Router", "--host", "127.0.0.1"]
    env = bare_environment.env | {"BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    env |= {"LEPTON_DECISIONS": f"file://{tmp_path}/decisions", "LEPTON_TOKEN": TOKEN}
    admin = {"authorization": f"Bearer {TOKEN}"}

    def answered() -> float:
        lines = client.get("/lepton/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("lepton_requests_total"))

    def deciding() -> int:
        return len(list((tmp_path / "decisions").glob("decisions-*")))

    def ask(number: int) -> int:
        """Each request on a connection of its own: the workers take turns."""
        row = {"x": 1.0, "unit": str(number)}
        answer = client.post("/invocations", json={"dataframe_records": [row]})
        feedback = [{"decision": answer.headers["x-lepton-decision"], "reward": 1.0}]
        told = client.post("/lepton/feedback", json=feedback, headers=admin)
        stored: int = told.json()["stored"]
        return stored

    apart = httpx.Limits(max_keepalive_connections=0)
    with (
        bare_environment.serving([*serve, "--port", str(port)], f"{url}/readyz", tmp_path / "project", env),
        httpx.Client(base_url=url, limits=apart, timeout=30) as client,
    ):
        asked, until = 0, time.monotonic() + 60  # Ready is said when the first worker is.
        while asked < 12 or (deciding() < 2 and time.monotonic() < until):
            assert ask(asked) == 1
            asked += 1
            time.sleep(0.1)
        assert deciding() == 2, "both have decided"
        time.sleep(0.5)  # A request is counted when its answer is on its way.
        assert {answered() for _ in range(8)} == {asked}
