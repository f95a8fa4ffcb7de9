"""A new plan replaces the old one while requests go on; one that can't be loaded doesn't."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from lepton_plugins.routing.directory import write_plan
from lepton_plugins.serving.pointer import read_pointer, write_pointer

ROW = {"x0": 0.5, "x1": -1.0, "x2": 2.0, "x3": 0.25, "carrier": "UA"}


@pytest.fixture
def state(make_deployment, tmp_path) -> tuple[Path, list]:
    """A state directory with three revisions of one model, the first in force."""
    directory = tmp_path / "state"
    made = []
    for seed in range(3):
        built = make_deployment(tmp_path / f"built-{seed}", seed=seed)
        target = directory / "revisions" / built.plan.digest.removeprefix("sha256:")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(built.path, target)
        made.append((f"revisions/{target.name}", built))
    write_pointer(directory, made[0][0])
    return directory, made


def until(said: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, "it didn't come to pass"
        time.sleep(0.05)


def in_force(client: httpx.Client) -> str:
    digest: str = client.get("/lepton/plan").json()["digest"]
    return digest


def test_no_request_fails_while_plans_change(state, start_server, tmp_path):
    directory, made = state
    stop = threading.Event()
    failures: list[str] = []
    answered = [0]

    def ask(url: str) -> None:
        probabilities = {version: float(built.expected("2", _row())) for version, (_, built) in enumerate(made)}
        with httpx.Client(base_url=url, timeout=30) as client:
            while not stop.is_set():
                response = client.post("/invocations", json={"dataframe_records": [ROW]})
                value = response.json()["predictions"][0][1] if response.status_code == 200 else None
                # Whole plans only: the answer is one of a revision's own, from the version it routes to.
                if value is None or min(abs(value - p) for p in probabilities.values()) > 1e-5:
                    failures.append(response.text)
                answered[0] += 1

    with start_server(directory, tmp_path, poll=0.05) as server:
        threads = [threading.Thread(target=ask, args=(server.url,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        with server.client() as client:
            for turn in range(1, 10):
                revision, built = made[turn % 3]
                write_pointer(directory, revision)
                until(lambda wanted=built.plan.digest: in_force(client) == wanted)
            reload = client.get("/lepton/plan").json()["reload"]
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert answered[0] > 100
    assert (reload["swaps"], reload["failures"], reload["error"]) == (9, 0, None)


def _row():
    import numpy as np

    return np.array([ROW[f"x{i}"] for i in range(4)])


def test_a_plan_that_cannot_be_loaded_leaves_the_old_one(state, start_server, tmp_path):
    directory, made = state
    broken, good = made[1][0], made[2]
    model = next((directory / broken / "models").rglob("model.onnx"))
    model.write_bytes(model.read_bytes() + b"x")
    with start_server(directory, tmp_path, poll=0.05) as server, server.client() as client:
        write_pointer(directory, broken)
        until(lambda: client.get("/lepton/plan").json()["reload"]["failures"] == 1)
        shown = client.get("/lepton/plan")
        assert shown.json()["digest"] == made[0][1].plan.digest
        assert shown.json()["reload"]["error"]["code"] == "digest_mismatch"
        assert str(tmp_path) not in shown.text
        assert client.post("/invocations", json={"dataframe_records": [ROW]}).status_code == 200
        assert 'lepton_reloads_total{model="flights",result="failed"} 1.0' in client.get("/metrics").text
        assert "can't be served" in server.errors.read_text()
        time.sleep(0.3)
        assert client.get("/lepton/plan").json()["reload"]["failures"] == 1, "one trial, not one a look"
        (directory / "current").write_text("../../etc\n")
        until(lambda: client.get("/lepton/plan").json()["reload"]["error"]["code"] == "pointer_invalid")
        write_pointer(directory, good[0])
        until(lambda: in_force(client) == good[1].plan.digest)
        assert client.get("/lepton/plan").json()["reload"]["error"] is None
    assert read_pointer(directory) == good[0]


def test_another_models_plan_does_not_come_in(state, start_server, tmp_path):
    """As where two models' servers were given one state directory."""
    directory, made = state
    other = tmp_path / "other"
    shutil.copytree(directory / made[1][0], other)
    plan = made[1][1].plan.model_copy(update={"model": "houses"})
    plan.__dict__.pop("digest", None)
    write_plan(plan, {}, other)
    named = f"revisions/{plan.digest.removeprefix('sha256:')}"
    other.rename(directory / named)
    with start_server(directory, tmp_path) as server, server.client() as client:
        write_pointer(directory, named)
        until(lambda: client.get("/lepton/plan").json()["reload"]["error"] is not None)
        told = client.get("/lepton/plan").json()
        assert (told["model"], told["digest"]) == ("flights", made[0][1].plan.digest)
        assert "'houses', and this server answers for 'flights'" in told["reload"]["error"]["error"]
        assert client.get("/v2/models").json() == {"models": ["flights"]}
