"""`lepton serve NAME`: a child process follows a real registry; the server outlives both."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from lepton_plugins.canonical import digest_tree
from lepton_plugins.records.plan import Activation

ROW = {"x0": 0.5, "x1": -1.0, "x2": 2.0, "x3": 0.25, "carrier": "UA"}


@pytest.fixture
def followed(sqlite_uri, make_deployment, tmp_path):
    """A registry with three versions and two plans over them; `activate(i)` puts one in force."""
    from lepton_plugins.registry import open_registry

    registry = open_registry(sqlite_uri)
    built = make_deployment(tmp_path / "built")
    arms = []
    for arm in built.plan.arms:
        source = built.path / "models" / arm.artifact_digest.removeprefix("sha256:")
        version = registry.register("flights", source, framework="onnx", label=arm.label, metadata={})
        fetched = tmp_path / f"fetched-{arm.version}"
        fetched.mkdir()
        digest = registry.fetch(version, fetched)
        assert digest == digest_tree(fetched)
        arms.append(arm.model_copy(update={"version": version.version, "artifact_digest": digest, "uri": version.uri}))
    plans = []
    for default in ("1", "3"):
        plan = built.plan.model_copy(update={"arms": tuple(arms), "default": default})
        plan.__dict__.pop("digest", None)
        plans.append(registry.save_plan(plan, {}, f"default {default}"))

    def activate(index: int) -> str:
        now = registry.plan_in_force("flights")
        activation = Activation(
            model="flights",
            action="promote",
            from_digest=now.digest if now else None,
            to_digest=plans[index].digest,
            to_number=plans[index].number,
            who="test",
            at=datetime.now(UTC).isoformat(),
        )
        registry.activate(activation, now.digest if now else None, force=False)
        return plans[index].digest

    return sqlite_uri, activate


def until(said, seconds=30):
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, "it didn't come to pass"
        time.sleep(0.1)


def test_serving_by_name_follows_the_registry_and_survives_it(followed, start_server, tmp_path):
    uri, activate = followed
    first = activate(0)
    state = tmp_path / "state"
    command = [sys.executable, "-m", "lepton_plugins.cli.main", "--registry", uri, "serve", "flights"]
    command += ["--port", "0", "--state", str(state)]
    with start_server(state, tmp_path, command=command) as server, server.client() as client:

        def plan():
            return client.get("/lepton/plan").json()

        assert plan()["digest"] == first
        child = next(p for p in psutil.Process(server.process.pid).children() if "follow" in " ".join(p.cmdline()))
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "pandas" not in maps, "the registry's packages stay in the child"

        second = activate(1)
        promoted = time.monotonic()
        until(lambda: plan()["digest"] == second)
        assert time.monotonic() - promoted < 10
        until(lambda: (plan()["reload"]["follower"] or {}).get("digest") == second)

        database = Path(uri.removeprefix("sqlite:///"))
        database.rename(database.with_suffix(".away"))
        child.kill()
        assert client.post("/invocations", json={"dataframe_records": [ROW]}).status_code == 200
        until(lambda: (plan()["reload"]["follower"] or {}).get("error"))
        assert plan()["digest"] == second
        assert client.get("/v2/health/ready").status_code == 200
        again = next(p for p in psutil.Process(server.process.pid).children() if "follow" in " ".join(p.cmdline()))
        assert again.pid != child.pid

        os.kill(server.process.pid, signal.SIGKILL)
        until(lambda: not again.is_running() or again.status() == psutil.STATUS_ZOMBIE)


def test_a_model_without_a_plan_is_one_clear_error(sqlite_uri, tmp_path):
    import subprocess

    command = [
        sys.executable,
        "-m",
        "lepton_plugins.cli.main",
        "--registry",
        sqlite_uri,
        "serve",
        "nothing",
        "--port",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr
