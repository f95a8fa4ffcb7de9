"""`lepton quickstart` as a user runs it: a process of its own, a real server, real traffic."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lepton_plugins.errors import PackageMissing
from lepton_plugins.quickstart import run as module
from lepton_plugins.quickstart.result import QuickstartResult

pytestmark = pytest.mark.timeout(300)

LEPTON = (sys.executable, "-c", "import sys; from lepton_plugins.cli.main import main; sys.exit(main())")


def quickstart(
    directory: Path, *options: str, timeout: float = 280, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [*LEPTON, "quickstart", str(directory), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd)


def answers(address: str) -> bool:
    where = urlsplit(address)
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((where.hostname, where.port)) == 0


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A space, because people have them.
    return tmp_path_factory.mktemp("quick") / "my flights"


@pytest.fixture(scope="module")
def first(directory: Path) -> subprocess.CompletedProcess[str]:
    return quickstart(directory, "--sample", "0.05", cwd=directory.parent)


@pytest.fixture(scope="module")
def result(first: subprocess.CompletedProcess[str], directory: Path) -> QuickstartResult:
    assert first.returncode == 0, first.stderr
    return QuickstartResult.model_validate_json((directory / "result.json").read_text())


def test_it_shows_routed_against_every_single_version(
    first: subprocess.CompletedProcess[str], result: QuickstartResult
) -> None:
    assert [period.period for period in result.periods] == ["November", "December"]
    for period in result.periods:
        assert [single.name for single in period.singles] == ["v1", "v2", "v3"]
        assert sum(single.share for single in period.singles) == pytest.approx(1)
        for contender in (period.routed, *period.singles):
            for estimate in (contender.log_loss, contender.auc):
                assert estimate.value is not None
                assert estimate.low is not None
                assert estimate.high is not None
                assert estimate.low < estimate.value < estimate.high
            assert 0 < contender.p50_ms < 1000
        for sentence in period.verdict:
            assert sentence in " ".join(first.stdout.split())
    assert result.promise in " ".join(first.stdout.split())
    for name in ("v1 alone", "v2 alone", "v3 alone", "the plan"):
        assert first.stdout.count(name) >= 2


def test_all_that_it_makes_lies_in_its_directory(
    first: subprocess.CompletedProcess[str], result: QuickstartResult, directory: Path
) -> None:
    assert list(directory.parent.iterdir()) == [directory]


def test_results_go_to_stdout_and_what_is_going_on_to_stderr(
    first: subprocess.CompletedProcess[str], result: QuickstartResult
) -> None:
    assert "✓" not in first.stdout
    assert max(map(len, first.stdout.split("MLflow's UI")[0].splitlines())) <= 80
    steps = ["Flights", "Train v1", "Train v2", "Train v3", "Register", "Evaluate", "Plan", "Pull", "Serve", "Traffic"]
    told = re.findall(r"✓ ([A-Z]\w+(?: v\d)?)", first.stderr)
    assert told[: len(steps)] == steps
    assert "Traceback" not in first.stderr
    assert "INFO" not in first.stderr


def test_everything_is_in_the_directory_and_the_server_has_ended(result: QuickstartResult, directory: Path) -> None:
    for name in ("mlflow.db", "mlruns", "plan.yaml", "flight.json", "deployment/plan.json", "comparison.png"):
        assert (directory / name).exists(), name
    address = re.search(r"http://\S+:\d+", (directory / "server.log").read_text())
    assert address is not None
    assert not answers(address[0])


def test_every_decision_has_its_outcome(result: QuickstartResult, first: subprocess.CompletedProcess[str]) -> None:
    for period in result.periods:
        assert f"feedback stored for {period.flights:,}" in first.stderr


def test_the_command_it_names_works(
    first: subprocess.CompletedProcess[str], result: QuickstartResult, directory: Path
) -> None:
    named = re.search(r"lepton explain .*", first.stdout)
    assert named is not None
    command = [*LEPTON, *shlex.split(named[0])[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=directory.parent)
    assert done.returncode == 0, done.stderr
    assert f"({result.default}) answers" in done.stdout


@pytest.mark.long
def test_ctrl_c_ends_the_server_too_and_the_next_run_goes_on(result: QuickstartResult, directory: Path) -> None:
    process = subprocess.Popen(
        [*LEPTON, "quickstart", str(directory), "--sample", "0.05"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    address = None
    for line in process.stderr:
        if found := re.search(r"Serve: .* at (http://\S+:\d+)", line):
            address = found[1]
            break
    assert address is not None
    assert answers(address)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    rest = process.stderr.read()
    process.stderr.close()
    assert "Traceback" not in rest
    deadline = time.monotonic() + 5
    while answers(address) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not answers(address)


def test_a_second_run_uses_what_the_first_one_made(result: QuickstartResult, directory: Path) -> None:
    again = quickstart(directory, "--sample", "0.05")
    assert again.returncode == 0, again.stderr
    assert "used again" in again.stderr
    assert again.stderr.count("found") >= 6
    second = QuickstartResult.model_validate_json((directory / "result.json").read_text())
    assert second.plan == result.plan
    for before, after in zip(result.periods, second.periods, strict=True):
        assert before.routed.log_loss == after.routed.log_loss


def test_a_directory_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = quickstart(tmp_path / "file" / "below")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "Can't write to" in refused.stderr
    assert "lepton quickstart DIR" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_missing_package_is_named_before_anything_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "skl2onnx" else object())
    with pytest.raises(PackageMissing, match=r"skl2onnx.*pip install 'lepton-plugins\[quickstart\]'"):
        module.run(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_full_form_takes_at_most_three_minutes(tmp_path: Path) -> None:
    start = time.monotonic()
    done = quickstart(tmp_path / "full", timeout=300)
    took = time.monotonic() - start
    assert done.returncode == 0, done.stderr
    assert took <= 180
    full = QuickstartResult.model_validate_json((tmp_path / "full" / "result.json").read_text())
    assert [period.flights for period in full.periods] == [26_971, 27_020]
    # More than one version answers: the plan is a real one.
    assert sum(single.share > 0.05 for single in full.periods[0].singles) >= 2
