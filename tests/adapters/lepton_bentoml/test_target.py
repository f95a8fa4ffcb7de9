"""The target `bentoml`: its configuration, its models, its endpoints; `conformance/` builds and serves it."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lepton_bentoml.config import service_config
from lepton_bentoml.models import BentoDeployment
from lepton_bentoml.options import BentomlOptions
from lepton_bentoml.target import BentomlTarget
from lepton_plugins.errors import BentoModelChanged, BentoModelMissing, ConfigKeyUnknown, InvalidInput, PathMissing
from lepton_plugins.generate import generate
from lepton_plugins.needs import need_of_all
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import TargetContract, write_deployment

pytest.importorskip("bentoml")


class TestContract(TargetContract):
    target = BentomlTarget


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bento") / "deployment"
    write_deployment(folder)
    return folder


def config_of(project: Path) -> dict[str, Any]:
    """What `service.py` calls CONFIG."""
    for node in ast.parse((project / "service.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "CONFIG":
            found: dict[str, Any] = ast.literal_eval(node.value)
            return found
    raise AssertionError("service.py has no CONFIG")


# --- configuration -------------------------------------------------------------------------------


def test_bentoml_keeps_every_key_of_the_configuration(deployment: Path, tmp_path: Path) -> None:
    """BentoML drops keys that it doesn't know without a word."""
    config = pytest.importorskip("_bentoml_sdk.service.config")
    options = {"cpu": "500m", "memory": "2Gi", "gpu": "1", "workers": "2", "max_concurrency": "64", "timeout": "5s"}
    generate(deployment, "bentoml", tmp_path / "to", options)
    written = config_of(tmp_path / "to")
    assert written["resources"] == {"cpu": "500m", "memory": "2048Mi", "gpu": 1}
    assert written["traffic"] == {"timeout": 5.0, "max_concurrency": 64}
    assert written["workers"] == 2
    kept = config.validate({key: value for key, value in written.items() if key != "name"})
    assert kept == {key: value for key, value in written.items() if key != "name"}


@pytest.mark.parametrize(
    "options",
    [{"gpu": "0"}, {"memory": "lots"}, {"memory": "5"}, {"name": "Line_Router"}, {"gpus": "1"}, {"workers": "many"}],
)
def test_what_bentoml_would_drop_or_misread_is_an_error(
    options: dict[str, str], deployment: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))) as caught:
        generate(deployment, "bentoml", tmp_path / "to", options)
    assert "Value error" not in str(caught.value)


def test_more_configuration_comes_from_a_file_and_options_go_before_it(deployment: Path, tmp_path: Path) -> None:
    file = tmp_path / "bentoml.yaml"
    mine = {
        "resources": {"memory": "1Gi", "cpu": 2},
        "traffic": {"external_queue": True, "timeout": 10},
        "workers": 3,
        "http": {"cors": {"enabled": True, "access_control_allow_origins": "*"}},
        "metrics": {"duration": {"buckets": [0.001, 0.01]}},
    }
    file.write_text(yaml.safe_dump(mine))
    generate(deployment, "bentoml", tmp_path / "to", {"config": str(file), "memory": "2Gi", "concurrency": "8"})
    written = config_of(tmp_path / "to")
    assert written["resources"] == {"memory": "2048Mi", "cpu": 2}
    assert written["traffic"] == {"external_queue": True, "timeout": 10, "concurrency": 8}
    assert written["workers"] == 3
    assert written["http"] == mine["http"]
    assert written["metrics"] == mine["metrics"]


@pytest.mark.parametrize(
    ("content", "key", "near"),
    [
        ({"resorces": {"cpu": 1}}, "resorces", "resources"),
        ({"resources": {"gpus": 1}}, "resources.gpus", "resources.gpu"),
        ({"traffic": {"max_concurency": 3}}, "traffic.max_concurency", "traffic.max_concurrency"),
        ({"http": {"cors": {"enable": True}}}, "http.cors.enable", "http.cors.enabled"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(content: Any, key: str, near: str, tmp_path: Path) -> None:
    file = tmp_path / "bentoml.yaml"
    file.write_text(yaml.safe_dump(content))
    plan = write_deployment(tmp_path / "deployment")
    with pytest.raises(ConfigKeyUnknown) as caught:
        service_config(need_of_all(plan), "line-router", BentomlOptions(config=file))
    assert f"no key {key!r}" in str(caught.value)
    assert f"Did you mean {near!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"resources": {"memory": 512}}, "512, which BentoML takes for Gi"),
        ({"resources": {"memory": "512"}}, "512, which BentoML takes for Gi"),
        ({"resources": {"memory": "lots"}}, "expected a size such as 512Mi"),
        ({"resources": {"cpu": "many"}}, "expected cores such as 4"),
        ({"resources": {"gpu": 0}}, "resources.gpu: found 0, expected greater than 0"),
        ({"resources": {"gpu": 1.5}}, "found 1.5, expected a whole number"),
        ({"resources": {"gpu_type": "nvidia-h200"}}, "nvidia-h200-141gb"),
        ({"resources": {"gpu": 1}, "workers": "cpu_count"}, "gives such workers no GPU"),
        ({"backlog": 3}, "backlog"),
    ],
)
def test_a_value_that_bentoml_misreads_or_refuses_is_named(content: Any, said: str, tmp_path: Path) -> None:
    file = tmp_path / "bentoml.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidInput) as caught:
        service_config(
            need_of_all(write_deployment(tmp_path / "deployment")), "line-router", BentomlOptions(config=file)
        )
    assert said in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("- a\n- b\n", "found no mapping"), ("a: [", "isn't YAML")])
def test_a_file_that_holds_no_configuration_is_told(text: str, said: str, tmp_path: Path) -> None:
    plan = write_deployment(tmp_path / "deployment")
    (tmp_path / "bentoml.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=said):
        service_config(need_of_all(plan), "line-router", BentomlOptions(config=tmp_path / "bentoml.yaml"))
    with pytest.raises(PathMissing):
        service_config(need_of_all(plan), "line-router", BentomlOptions(config=tmp_path / "none.yaml"))


# --- models, and a service of one's own ----------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """An empty model store of BentoML's for this test; the function changes to another one."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    before = BentoMLContainer.model_store.get()

    def use(folder: Path) -> None:
        folder.mkdir()
        BentoMLContainer.model_store.set(ModelStore(folder))

    use(tmp_path / "store")
    yield use
    BentoMLContainer.model_store.set(before)


def test_models_are_named_by_their_digest_kept_once_and_checked(
    deployment: Path, store: Callable[[Path], None], tmp_path: Path
) -> None:
    import bentoml

    copy = tmp_path / "copy"
    shutil.copytree(deployment, copy)
    digests = sorted(path.name for path in (copy / "models").iterdir())
    first = BentoDeployment(copy)
    assert sorted(first.tags.values()) == sorted(f"line:{digest[:40]}" for digest in digests)
    assert sorted(first.references) == ["version_1", "version_2"]
    stored = {str(model.tag): model.info.creation_time for model in bentoml.models.list()}
    assert set(stored) == set(first.tags.values())
    shutil.rmtree(copy / "models")  # As in a bento's sources.
    kept = BentoDeployment(copy)
    with Router.load(kept.path) as router:
        assert router.predict({"x": np.array([1.0])}, version="2", may_force=True).values == 2.0
    again = {str(model.tag): model.info.creation_time for model in bentoml.models.list()}
    assert again == stored, "what is stored already is taken as it is"

    for graph in (tmp_path / "store").rglob("model.onnx"):
        graph.write_bytes(b"changed")
    with pytest.raises(BentoModelChanged, match="bentoml models delete line:"):
        BentoDeployment(deployment)
    store(tmp_path / "other")
    with pytest.raises(BentoModelMissing, match="bentoml models pull line:"):
        BentoDeployment(copy)


_ENDED = """
import os, signal, sys, threading
from pathlib import Path
from lepton_bentoml.models import BentoDeployment

made = BentoDeployment(Path(sys.argv[1]))
print(made.path, flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


def test_links_of_processes_that_were_killed_are_removed_and_no_others(deployment: Path, tmp_path: Path) -> None:
    env = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()

    def start(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _ENDED, str(deployment), how]
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start("killed") as killed, start("stays") as stays:
        assert killed.stdout is not None
        assert stays.stdout is not None
        abandoned, used = Path(killed.stdout.readline().strip()), Path(stays.stdout.readline().strip())
        assert killed.wait(30) == -signal.SIGKILL
        with start("stays") as third:
            assert third.stdout is not None
            assert Path(third.stdout.readline().strip()).parent == used.parent
            assert (abandoned.exists(), (used / "plan.json").is_file()) == (False, True)
    assert list((tmp_path / "tmp").glob("lepton-bento-*")) == []


_TWO_LINES = """
import json, sys
import bentoml
import numpy as np
import pandas as pd
from starlette.testclient import TestClient
from lepton_bentoml.service import RouterService


@bentoml.service(name="churn")
class Churn(RouterService, deployment=sys.argv[1], path="/router"):
    @bentoml.api
    def mine(self, x: float) -> float:
        return float(self.router.predict({"x": np.array([x]), "unit": np.array(["a"])}).values[0])

    @bentoml.api
    def predict(self, x: float) -> str:
        return "my own"


rows = [{"x": float(x), "unit": unit} for x, unit in zip(range(4), "abcd")]
with TestClient(Churn.to_asgi()) as client:
    post = lambda path, body: client.post(path, json=body).json()
    print(json.dumps({
        "apis": sorted(Churn.apis),
        "models": len(Churn.models),
        "mine": post("/mine", {"x": 1.0}),
        "predict": client.post("/predict", json={"x": 1.0}).text,
        "decide": post("/decide", {"rows": rows}),
        "batch": post("/predict_batch", {"rows": rows}),
        "mounted": post("/router/invocations", {"dataframe_records": rows}),
        "index": client.get("/").status_code,
        "ready": client.get("/readyz").status_code,
    }))
"""


_KEYS = """
import json, sys
import bentoml
from starlette.testclient import TestClient
from lepton_bentoml.service import RouterService


@bentoml.service(name="line")
class Line(RouterService, deployment=sys.argv[1]): ...


with TestClient(Line.to_asgi()) as client:
    post = lambda path, **body: client.post(path, json=body).json()
    rows = [{"x": float(x), "unit": x} for x in range(40)]
    by_array = post("/predict_array", rows=[[row["x"]] for row in rows], keys=[row["unit"] for row in rows])
    print(json.dumps([by_array, post("/predict", rows=rows), post("/predict_array", rows=[[1.0]], keys=["a"])]))
"""


def with_keys(path: Path, dtype: str) -> DeploymentPlan:
    """A deployment whose sticky key is a column of this type."""
    plan = write_deployment(path)
    inputs = tuple(
        field.model_copy(update={"dtype": dtype}) if field.name == "unit" else field for field in plan.signature.inputs
    )
    plan = plan.model_copy(update={"signature": plan.signature.model_copy(update={"inputs": inputs})})
    write_plan(plan, {}, path)
    return plan


def test_keys_beside_an_array_are_of_the_key_columns_type(tmp_path: Path) -> None:
    with_keys(tmp_path / "deployment", "int64")
    env = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-c", _KEYS, str(tmp_path / "deployment")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    by_array, by_name, refused = json.loads(done.stdout.splitlines()[-1])
    assert by_array == by_name
    assert len(by_array) == 40
    assert "valid integer" in json.dumps(refused)


@pytest.mark.parametrize(("dtype", "kind"), [("int64", int), ("float64", float), ("str", str), ("object", str | int)])
def test_the_type_of_the_keys_is_in_the_api(dtype: str, kind: Any, tmp_path: Path) -> None:
    from lepton_bentoml.rows import RowReader
    from lepton_bentoml.service import _endpoints

    plan = with_keys(tmp_path / "deployment", dtype)
    endpoints = {name: function for name, function, _ in _endpoints(plan, RowReader(plan.signature, 10))}
    assert endpoints["predict_array"].__annotations__["keys"] == list[kind] | None


def test_a_service_that_people_have_embeds_it_in_two_lines(deployment: Path, tmp_path: Path) -> None:
    env = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-c", _TWO_LINES, str(deployment)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    with Router.load(deployment) as router:
        mine = router.predict({"x": np.array([1.0]), "unit": np.array(["a"])}).values[0]
    assert found["apis"] == ["decide", "mine", "predict", "predict_array", "predict_batch"]
    assert found["models"] == 2
    assert found["predict"] == "my own", "what the class has already stays"
    assert found["mine"] == mine
    answers = [row["prediction"] for row in found["decide"]]
    assert found["batch"] == answers == found["mounted"]["predictions"]
    assert {row["lepton_version"] for row in found["decide"]} == {"1", "2"}
    assert found["index"] == found["ready"] == 200
