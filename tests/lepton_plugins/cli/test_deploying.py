"""Pulling and serving at the terminal: a disk that is full, a real server that follows a real registry."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from conftest import Flights, Ran

Lepton = Callable[..., "Ran"]


_SMALL_DISKS = (
    shutil.which("unshare")
    and not subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=10, check=False
    ).returncode
)


@pytest.mark.skipif(not _SMALL_DISKS, reason="this user can't mount a small disk of his own")
@pytest.mark.parametrize("kilobytes", [8, *(pytest.param(size, marks=pytest.mark.long) for size in (12, 16)), 24])
def test_a_disk_that_is_full_is_named_and_keeps_nothing_half_written(
    promoted: Flights, tmp_path: Path, kilobytes: int
) -> None:
    """Too small for the first model, for a later one, for the plan: each page is 4 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    lepton = f"{shlex.quote(sys.executable)} -m lepton_plugins.cli.main pull flights --to {disk}/flights"
    script = f"mount -t tmpfs -o size={kilobytes}k none {disk} && {{ {lepton}; echo $?; ls -A {disk}; }}"
    ran = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "2\n"
    assert ran.stderr == (
        f"error: No space is left on the disk of {disk}/flights. Free some there, or pull to another place; "
        f"nothing half-written was left.\n"
    )


def test_serving_an_unknown_model_says_so_once(lepton: Lepton, promoted: Flights, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "lepton_plugins.cli.main",
        "serve",
        "flihgts",
        "--port",
        "0",
        "--decisions",
        "none",
    ]
    ran = subprocess.run([*command, "-q"], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert "Did you mean 'flights'?" in ran.stderr


def test_serve_answers_follows_the_registry_and_takes_feedback(
    lepton: Lepton, promoted: Flights, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", "flights", "--port", "0"]
    command += ["--decisions", str(tmp_path / "decisions"), "--registry", promoted.uri]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.search(r"http://[\d.:]+", line)
        assert address is not None, (line, process.stderr.read() if process.stderr else "")
        url = address[0]
        body = {"dataframe_records": [{"wind": 1.0, "delay": 0.2, "carrier": "UA"}]}
        answer = httpx.post(f"{url}/invocations", json=body)
        assert answer.status_code == 200
        assert answer.headers["x-lepton-version"] == "2"
        decision = answer.headers["x-lepton-decision"]
        decision = decision if "/" in decision else f"{decision}/0"
        told = lepton("feedback", url, decision, "--reward", "1", "-o", "json")
        assert json.loads(told.out) == {"stored": 1, "duplicates": 0, "unknown": []}
        refused = lepton("feedback", f"{url}/nowhere", decision, "--reward", "1")
        assert refused.code == 2
        assert "answered 404" in refused.err
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_serve_without_a_plan_says_so(lepton: Lepton, flights: Flights) -> None:
    ran = lepton("serve", "flights", "--port", "0")
    assert ran.code == 2, ran.err
    assert "no plan in force" in ran.err
