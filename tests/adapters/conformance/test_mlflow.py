"""The MLflow model: served, run by MLflow's commands, pickled for Spark, where Lepton isn't installed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from lepton_plugins.generate import generate


@pytest.fixture(scope="module")
def mlflow_model(deployment: Path) -> Path:
    generate(deployment, "mlflow", deployment.parent / "mlflow", {})
    return deployment.parent / "mlflow"


@pytest.fixture(scope="module")
def mlflow_server(
    mlflow_model: Path, bare_environment: Any, free_port: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [bare_environment.python, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-p", str(port)]
    folder = tmp_path_factory.mktemp("mlflow-server")
    with bare_environment.serving([*command, "-m", str(mlflow_model)], f"{url}/ping", folder):
        yield url


def test_it_sends_each_row_where_the_router_does(mlflow_server: str, rows: pd.DataFrame, agree: Any) -> None:
    split = json.loads(rows.to_json(orient="split", index=False, double_precision=15))
    body = {"dataframe_split": split, "params": {"lepton_decisions": True}}
    answer = httpx.post(f"{mlflow_server}/invocations", json=body, timeout=60)
    assert answer.status_code == 200, answer.text[:1000]
    told = answer.json()["predictions"]
    agree([row["lepton_version"] for row in told], [row["prediction"] for row in told])


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
def test_mlflow_models_predict(kind: str, offline: Path, routed: Any) -> None:
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


def test_what_spark_pickles_answers_in_another_process(offline: Path, routed: Any, bare_environment: Any) -> None:
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
    mlflow_model: Path, offline: Path, agree: Any, bare_environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs a Java runtime")
    monkeypatch.setitem(bare_environment.env, "PYSPARK_PYTHON", bare_environment.python)
    printed = bare_environment.run(_SPARK, str(mlflow_model), str(offline / "rows.parquet"), cwd=offline)
    agree(*json.loads(printed.splitlines()[-1]))
