"""One plan behind every target: the same rows go to the same versions, with those versions' own answers.

Each server is started once, in an environment without Lepton where it is one of a target's; the tests of what only
one of them does follow on it.
"""

from __future__ import annotations

import asyncio
import json
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
import pytest
import yaml

from lepton_plugins.canonical import digest_tree
from lepton_plugins.generate import generate
from lepton_plugins.records.plan import DeploymentPlan, PolicyDocument
from lepton_plugins.records.signature import Field
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import write_deployment

ROWS = 1000
#: What `write_deployment` makes the versions of: y = w·x + b.
LINES = {"1": (2.0, 1.0), "2": (3.0, -1.0)}
TOKEN = "a-token-of-the-secret"


class Answers(NamedTuple):
    """Of one way to ask: a version and a value for each row."""

    versions: list[str]
    values: list[float]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Carriers decide, and within a carrier the unit's key; version 1 is an ONNX file, version 2 scikit-learn's."""
    folder = tmp_path_factory.mktemp("conformance") / "deployment"
    plan = with_scikit_learn(write_deployment(folder), folder)
    shares = {"AA": [["1", 32_768], ["2", 32_768]], "UA": [["2", 65_536]], "Ñandú": [["1", 50_000], ["2", 15_536]]}
    cells = [
        {"value": [carrier], "rows": 10, "slots": slots, "candidates": {}, "reason": f"planned for {carrier}"}
        for carrier, slots in shares.items()
    ]
    policy = PolicyDocument(
        kind="segment_best",
        params={"by": ["carrier"]},
        features=("carrier",),
        document={"by": ["carrier"], "cells": cells},
    )
    signature = plan.signature.model_copy(
        update={"inputs": (*plan.signature.inputs, Field(name="carrier", dtype="str", required=False))}
    )
    write_plan(plan.model_copy(update={"policy": policy, "signature": signature}), {}, folder)
    return folder


def with_scikit_learn(plan: DeploymentPlan, folder: Path) -> DeploymentPlan:
    """The plan with a version 2 that MLflow logged: the same line, by another backend and other packages."""
    import mlflow
    from sklearn.linear_model import LinearRegression

    x = pd.DataFrame({"x": np.array([0.0, 1.0, 2.0])})
    slope, constant = LINES["2"]
    model = LinearRegression().fit(x, slope * x["x"] + constant)
    signature = mlflow.models.infer_signature(x, model.predict(x))
    packages = [f"{name}=={version(name)}" for name in ("scikit-learn", "skops")]
    made = folder / "models" / "made"
    mlflow.sklearn.save_model(model, made, signature=signature, serialization_format="skops", pip_requirements=packages)
    digest = digest_tree(made)
    made.rename(made.with_name(digest.removeprefix("sha256:")))
    one, two = plan.arms
    shutil.rmtree(folder / "models" / two.artifact_digest.removeprefix("sha256:"))
    changed = {"artifact_digest": digest, "backend": "pyfunc", "format": "skops", "framework": "sklearn"}
    return plan.model_copy(update={"arms": (one, two.model_copy(update=changed))})


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Keys and carriers of all sorts: digits, other scripts, a carrier that the plan doesn't know, none."""
    random = np.random.default_rng(3)
    keys = [f"{number:04d}" if number % 3 else f"кунда-{number}" for number in range(ROWS)]
    carriers = random.choice(np.array(["AA", "UA", "Ñandú", "ZZ", None], dtype=object), ROWS)
    x = random.normal(size=ROWS).astype(np.float32).astype(np.float64)  # What a float32 input takes without a loss.
    return pd.DataFrame({"x": x, "unit": keys, "carrier": carriers})


@pytest.fixture(scope="module")
def routed(deployment: Path, rows: pd.DataFrame) -> Answers:
    """The Router in Python."""
    with Router.load(deployment) as router:
        table = router.predict(rows).table()
    return Answers(list(table["lepton_version"]), list(table["prediction"]))


def test_the_versions_own_answers_are_what_the_router_gives(routed: Answers, rows: pd.DataFrame) -> None:
    lines = np.array([LINES[version] for version in routed.versions])
    np.testing.assert_allclose(routed.values, lines[:, 0] * rows["x"] + lines[:, 1], atol=1e-6)
    by_carrier = pd.Series(routed.versions).groupby(rows["carrier"].fillna("none")).unique()
    assert set(by_carrier["UA"]) == {"2"}
    assert set(by_carrier["AA"]) == set(by_carrier["Ñandú"]) == {"1", "2"}
    assert set(by_carrier["ZZ"]) == set(by_carrier["none"]) == {"1"}


# --- the servers ---------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def data_plane(deployment: Path, bare_environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", str(deployment), "--port", str(port)]
    folder = tmp_path_factory.mktemp("data-plane")
    with bare_environment.serving([*command, "--decisions", "none"], f"{url}/v2/health/ready", folder):
        yield url


@pytest.fixture(scope="module")
def mlflow_model(deployment: Path) -> Path:
    generate(deployment, "mlflow", deployment.parent / "mlflow", {})
    return deployment.parent / "mlflow"


@pytest.fixture(scope="module")
def mlflow_server(mlflow_model: Path, bare_environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [bare_environment.python, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-p", str(port)]
    folder = tmp_path_factory.mktemp("mlflow-server")
    with bare_environment.serving([*command, "-m", str(mlflow_model)], f"{url}/ping", folder):
        yield url


class Bento(NamedTuple):
    url: str
    folder: Path
    project: Path
    decisions: Path


@pytest.fixture(scope="module")
def bento(deployment: Path, bare_environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bento]:
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


@pytest.fixture(scope="module")
def predictor(deployment: Path, bare_environment: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The container's own command on what the pod mounts."""
    folder = tmp_path_factory.mktemp("predictor")
    generate(deployment, "kserve", folder / "to", {"models": "s3://bucket/models"})
    (container,) = yaml.safe_load((folder / "to" / "inferenceservice.yaml").read_text())["spec"]["predictor"][
        "containers"
    ]
    shutil.copytree(deployment, folder / "mnt")
    url = f"http://127.0.0.1:{(port := free_port())}"
    places = {"python": bare_environment.python, "/mnt": str(folder / "mnt"), "8080": str(port)}
    places["file:///var/lib/lepton/decisions"] = f"file://{folder}/decisions"
    places["file:///var/lib/lepton/learning"] = f"file://{folder}/learning"
    command = [places.get(part, part) for part in [*container["command"], *container["args"]]]
    env = {"PYTHONPATH": str(folder / "to" / "image" / "packages")}
    with bare_environment.serving(command, f"{url}/v2/health/ready", folder, env):
        yield url


# --- the same rows to each -----------------------------------------------------------------------


def infer_request(rows: pd.DataFrame) -> dict[str, Any]:
    kinds = {"x": "FP64", "unit": "BYTES", "carrier": "BYTES"}
    present = {name: rows[name].fillna("") if name == "carrier" else rows[name] for name in rows}
    return {
        "inputs": [
            {"name": name, "shape": [len(rows)], "datatype": kinds[name], "data": column.tolist()}
            for name, column in present.items()
        ]
    }


def ask_v2(url: str, rows: pd.DataFrame) -> Answers:
    answer = httpx.post(f"{url}/v2/models/line/infer", json=infer_request(rows), timeout=60)
    assert answer.status_code == 200, answer.text[:1000]
    output = answer.json()["outputs"][0]
    return Answers(_listed(output["parameters"]["lepton_versions"]), output["data"])


def ask_kserve(url: str, rows: pd.DataFrame) -> Answers:
    """KServe's own client."""
    argv, sys.argv = sys.argv, ["kserve"]  # Importing it parses the command line.
    try:
        kserve = pytest.importorskip("kserve")
        from kserve.inference_client import InferenceRESTClient, RESTConfig
    finally:
        sys.argv = argv
    inputs = [
        kserve.InferInput(item["name"], item["shape"], item["datatype"], item["data"])
        for item in infer_request(rows)["inputs"]
    ]
    request = kserve.InferRequest(model_name="line", infer_inputs=inputs)

    async def talk() -> Any:
        return await InferenceRESTClient(RESTConfig(protocol="v2")).infer(url, request, model_name="line")

    output = asyncio.run(talk()).outputs[0]
    return Answers(_listed(output.parameters["lepton_versions"]), output.as_numpy().ravel().tolist())


def ask_mlflow(url: str, rows: pd.DataFrame) -> Answers:
    split = json.loads(rows.to_json(orient="split", index=False, double_precision=15))
    body = {"dataframe_split": split, "params": {"lepton_decisions": True}}
    answer = httpx.post(f"{url}/invocations", json=body, timeout=60)
    assert answer.status_code == 200, answer.text[:1000]
    told = answer.json()["predictions"]
    return Answers([row["lepton_version"] for row in told], [row["prediction"] for row in told])


def ask_bento(url: str, rows: pd.DataFrame) -> Answers:
    """BentoML's own client, which knows the types from the service."""
    import bentoml

    with bentoml.SyncHTTPClient(url) as client:
        table = client.decide(rows=rows)
    return Answers(list(table["lepton_version"]), list(table["prediction"]))


def _listed(versions: Any) -> list[str]:
    found: list[str] = versions.split(",") if isinstance(versions, str) else list(versions)
    return found


WAYS: dict[str, tuple[str, Callable[[str, pd.DataFrame], Answers]]] = {
    "data plane": ("data_plane", ask_v2),
    "mlflow": ("mlflow_server", ask_mlflow),
    "bentoml": ("bento", ask_bento),
    "bentoml, mounted": ("bento", ask_v2),
    "kserve": ("predictor", ask_kserve),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_target_sends_each_row_where_the_router_does(
    way: str, request: pytest.FixtureRequest, routed: Answers, rows: pd.DataFrame
) -> None:
    name, ask = WAYS[way]
    server = request.getfixturevalue(name)
    found = ask(server if isinstance(server, str) else server.url, rows)
    assert found.versions == routed.versions
    np.testing.assert_allclose(found.values, routed.values, atol=1e-6)


# --- MLflow --------------------------------------------------------------------------------------


def test_mlflows_server_tells_what_is_wrong_without_a_trace(mlflow_server: str) -> None:
    for record in ({"x": "one", "unit": "a"}, {"unit": "a"}):
        answer = httpx.post(f"{mlflow_server}/invocations", json={"dataframe_records": [record]}, timeout=30)
        assert answer.status_code == 400
        assert "Traceback" not in answer.text
        assert "stack_trace" not in answer.text


_OFFLINE = """
import json, sys
from pathlib import Path

import cloudpickle, mlflow, pandas as pd
from click.testing import CliRunner
from mlflow.models.cli import commands

model, folder = sys.argv[1], Path(sys.argv[2])
for kind in ("json", "csv"):
    command = ["predict", "-m", model, "-i", str(folder / f"rows.{kind}"), "-t", kind, "--env-manager", "local"]
    done = CliRunner().invoke(commands, [*command, "-o", str(folder / f"{kind}.out")])
    assert done.exit_code == 0, (done.output, done.exception)
done = CliRunner().invoke(commands, ["generate-dockerfile", "-m", model, "-d", str(folder / "docker")])
assert done.exit_code == 0, (done.output, done.exception)
# What mlflow.pyfunc.spark_udf sends to its workers: the loaded model within a closure.
loaded = mlflow.pyfunc.load_model(model)
(folder / "udf.pickle").write_bytes(cloudpickle.dumps(lambda frame: loaded.predict(frame)))
"""

_WORKER = """
import json, sys
import cloudpickle, pandas as pd
with open(sys.argv[1], "rb") as file:
    answer = cloudpickle.load(file)
print(json.dumps([float(value) for value in answer(pd.read_parquet(sys.argv[2]))]))
"""


@pytest.fixture(scope="module")
def offline(
    mlflow_model: Path, rows: pd.DataFrame, bare_environment: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What MLflow's commands made, in one process where nothing of Lepton is installed."""
    folder: Path = tmp_path_factory.mktemp("offline")
    split = json.loads(rows.to_json(orient="split", index=False, double_precision=15))
    (folder / "rows.json").write_text(json.dumps({"dataframe_split": split}))
    rows.to_csv(folder / "rows.csv", index=False)
    rows.to_parquet(folder / "rows.parquet")
    looked = bare_environment.run(
        "import importlib.util as u; print(u.find_spec('lepton_plugins'), u.find_spec('mlflow') is not None)",
        cwd=folder,
    )
    assert looked.split() == ["None", "True"]
    bare_environment.run(_OFFLINE, str(mlflow_model), str(folder), cwd=folder)
    return folder


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_mlflow_models_predict(kind: str, offline: Path, routed: Answers) -> None:
    predicted = json.loads((offline / f"{kind}.out").read_text())["predictions"]
    np.testing.assert_allclose(predicted, routed.values, atol=1e-6)


def test_mlflow_models_generate_dockerfile(offline: Path, mlflow_model: Path) -> None:
    text = (offline / "docker" / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.\d+\.\d+-slim$", text, re.M)
    pinned = (mlflow_model / "requirements.txt").read_text().splitlines()
    (mlflow_pin,) = [line for line in pinned if line.startswith("mlflow==")]
    assert f"RUN pip install {mlflow_pin}" in text
    assert "env_manager='local'" in text
    assert not re.search(r"https?://(?!docs\.aws)", text)
    (copied,) = re.findall(r"^COPY (model_dir/\S+) /opt/ml/model$", text, re.M)
    inside = offline / "docker" / copied
    assert (inside / "MLmodel").is_file()
    assert (inside / "requirements.txt").read_text().splitlines() == pinned
    assert list((inside / "code").glob("*.dist-info/entry_points.txt"))


def test_what_spark_pickles_answers_in_another_process(offline: Path, routed: Answers, bare_environment: Any) -> None:
    printed = bare_environment.run(_WORKER, str(offline / "udf.pickle"), str(offline / "rows.parquet"), cwd=offline)
    np.testing.assert_allclose(json.loads(printed), routed.values, atol=1e-6)


_SPARK = """
import json, sys
import mlflow, pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import struct

spark = (
    SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
)
rows = pd.read_parquet(sys.argv[2])
rows["row"] = range(len(rows))
frame = spark.createDataFrame(rows).repartition(4)
columns = struct("x", "unit", "carrier")
kind = "prediction double, lepton_version string"
udf = mlflow.pyfunc.spark_udf(
    spark, sys.argv[1], env_manager="local", params={"lepton_decisions": True}, result_type=kind
)
got = frame.select("row", udf(columns).alias("told")).select("row", "told.*").toPandas().sort_values("row")
print(json.dumps([got["lepton_version"].tolist(), got["prediction"].tolist()]))
spark.stop()
"""


@pytest.mark.long
@pytest.mark.timeout(400)
def test_spark_udf_on_a_local_spark(
    mlflow_model: Path, offline: Path, routed: Answers, bare_environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs a Java runtime")
    monkeypatch.setitem(bare_environment.env, "PYSPARK_PYTHON", bare_environment.python)
    printed = bare_environment.run(_SPARK, str(mlflow_model), str(offline / "rows.parquet"), cwd=offline)
    found = Answers(*json.loads(printed.splitlines()[-1]))
    assert found.versions == routed.versions
    np.testing.assert_allclose(found.values, routed.values, atol=1e-6)


# --- BentoML -------------------------------------------------------------------------------------


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


def test_bentomls_client_asks_with_frames_arrays_and_lists(bento: Bento, rows: pd.DataFrame, routed: Answers) -> None:
    import bentoml

    some = rows.head(40)
    with bentoml.SyncHTTPClient(bento.url) as client:
        np.testing.assert_allclose(client.predict(rows=some), routed.values[:40], atol=1e-6)
        np.testing.assert_allclose(client.predict_batch(rows=some.to_dict("records")), routed.values[:40], atol=1e-6)
        by_key = client.predict_array(rows=some[["x"]].to_numpy(), keys=list(some["unit"]))
    with Router.load(bento.project / "deployment") as router:
        np.testing.assert_allclose(by_key, router.predict(some[["x", "unit"]]).values, atol=1e-6)


def test_bentos_batches_of_many_callers_go_where_each_row_would(
    bento: Bento, rows: pd.DataFrame, routed: Answers
) -> None:
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
