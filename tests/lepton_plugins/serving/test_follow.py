"""`lepton serve NAME`: a child process follows a real registry; the server outlives both."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
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


def test_what_a_server_has_loaded_is_not_pruned_and_only_changes_are_written(followed, tmp_path):
    from lepton_plugins.serving.follow import Following
    from lepton_plugins.serving.pointer import FOLLOWER, REVISIONS, Hold, read_pointer

    uri, activate = followed
    activate(0)
    state = tmp_path / "state"
    revisions = state / REVISIONS
    old, *others = (revisions / (f"{number}" * 64) for number in range(1, 6))
    for age, path in enumerate((old, *others)):
        path.mkdir(parents=True)
        os.utime(path, (1000 + age, 1000 + age))
    serving, too = Hold(old), Hold(old)  # Two workers.
    following = Following(uri, "flights", state)
    digest = following.look()
    kept = {path.name for path in revisions.iterdir()}
    current = read_pointer(state).removeprefix(f"{REVISIONS}/")
    assert kept == {old.name, *(path.name for path in others[-2:]), current}

    following.tell(digest, None)
    told = (state / FOLLOWER).stat()
    os.utime(state / FOLLOWER, (2000, 2000))
    following.tell(digest, None)
    again = (state / FOLLOWER).stat()
    assert again.st_ino == told.st_ino, "not written anew"
    assert again.st_mtime > 2000, "but looked at"
    following.tell(None, ValueError("away"))
    assert (state / FOLLOWER).stat().st_ino != told.st_ino

    serving.release()
    activate(1)
    following.look()
    assert old.exists()
    too.release()
    activate(0)
    (state / "current").unlink()
    following.look()
    assert not old.exists()


def test_a_pointer_that_another_hand_wrote_is_written_anew(followed, tmp_path):
    from lepton_plugins.serving.follow import Following
    from lepton_plugins.serving.pointer import POINTER, REVISIONS, read_pointer

    uri, activate = followed
    named = f"{REVISIONS}/{activate(0).removeprefix('sha256:')}"
    (tmp_path / "state" / REVISIONS).mkdir(parents=True)
    following = Following(uri, "flights", tmp_path / "state")
    for content in ("", "../../etc", f"{REVISIONS}/{'a' * 64}", "revisions/\xff"):
        (tmp_path / "state" / POINTER).write_text(content)
        following.look()
        assert read_pointer(tmp_path / "state") == named


def test_a_full_disk_ends_when_it_ends(followed, tmp_path):
    """The process that follows goes on, tells no old word meanwhile, and leaves nothing half-written."""
    from lepton_plugins.serving.pointer import FOLLOWER, REVISIONS, read_pointer

    uri, activate = followed
    first, state = activate(0), tmp_path / "state"
    command = [sys.executable, "-m", "lepton_plugins.serving.follow", "--registry", uri, "--model", "flights"]
    command += ["--state", str(state), "--interval", "0.2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: (state / FOLLOWER).is_file())
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            second = activate(1)
            until(lambda: not (state / FOLLOWER).exists())
            time.sleep(1)
            assert process.poll() is None
            assert read_pointer(state) == f"{REVISIONS}/{first.removeprefix('sha256:')}"
            assert not list(state.glob(".*"))
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            until(lambda: read_pointer(state) == f"{REVISIONS}/{second.removeprefix('sha256:')}", 10)
            until(lambda: (state / FOLLOWER).is_file() and second in (state / FOLLOWER).read_text(), 5)
        finally:
            _, said = process.communicate(timeout=20)
    assert "can't be told to the server: File too large" in said
    assert "Traceback" not in said
    assert process.returncode == 0


def test_a_disk_that_is_full_from_the_start_is_told_at_once(followed, tmp_path):
    """No word can be left for the server, which waits on: the log says why, and the plan comes when there is room."""
    from lepton_plugins.serving.pointer import REVISIONS, read_pointer

    uri, activate = followed
    first, state = activate(0), tmp_path / "state"
    command = [sys.executable, "-B", "-m", "lepton_plugins.serving.follow", "--registry", uri, "--model", "flights"]
    command += ["--state", str(state), "--interval", "0.2"]

    def fill() -> None:
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY)
        )  # Temporary folders are tried by a few bytes.

    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=fill
    ) as process:
        try:
            assert process.stderr is not None
            lines = [process.stderr.readline(), process.stderr.readline()]
            assert "can't be told to the server: File too large" in lines[0]
            assert "File too large" in lines[1]
            assert "Traceback" not in lines[1]
            assert read_pointer(state) is None
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            until(lambda: read_pointer(state) == f"{REVISIONS}/{first.removeprefix('sha256:')}", 20)
        finally:
            process.communicate(timeout=20)
    assert process.returncode == 0
