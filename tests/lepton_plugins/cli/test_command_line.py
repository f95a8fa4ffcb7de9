"""What holds for every command: help, errors, exit codes, quick starts, quiet ends."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest

from lepton_plugins import __version__
from lepton_plugins.cli.main import command, main
from lepton_plugins.testing import write_deployment

COMMANDS = [
    *("quickstart", "register", "list", "evaluate", "compare", "plan", "diff", "promote", "rollback", "pin", "history"),
    *("pull", "explain", "generate", "serve", "predict", "feedback", "replay", "plugins", "schema", "doctor", "purge"),
]
SHOWING = sorted(set(COMMANDS) - {"quickstart", "serve"})
LEPTON = (sys.executable, "-m", "lepton_plugins.cli.main")


def started(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LEPTON, *arguments], capture_output=True, text=True, check=False, timeout=60, **more)


def test_the_commands_are_those_of_the_design() -> None:
    assert sorted(command().commands) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_an_example(lepton: Callable[..., Any], name: str) -> None:
    ran = lepton(name, "--help")
    assert (ran.code, ran.err) == (0, "")
    text = re.sub(r"[│\s]+", " ", ran.out)
    assert f"Example: lepton {name}" in text
    assert "--registry" in text
    assert "--debug" in text
    assert "default: )" not in text
    assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize("name", SHOWING)
def test_every_showing_command_takes_a_form_of_output(name: str) -> None:
    options = [option for parameter in command().commands[name].params for option in parameter.opts]
    assert "--output" in options
    assert "-o" in options


@pytest.mark.parametrize("name", ["evaluate", "plan", "diff", "pin", "replay"])
def test_a_command_that_may_ask_for_trust_takes_it(name: str) -> None:
    assert "--trust" in {option for item in command().commands[name].params for option in item.opts}


def test_help_without_a_command(lepton: Callable[..., Any]) -> None:
    ran = lepton()
    assert ran.code == 0
    assert all(name in ran.out for name in COMMANDS)


def test_the_version(lepton: Callable[..., Any]) -> None:
    assert lepton("--version").out == f"lepton {__version__}\n"


def test_help_takes_less_than_half_a_second() -> None:
    def once() -> float:
        # The process's own time: what a machine busy with other things adds isn't ours.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert started("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(3)) < 0.5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["list", "--bogus"], "No such option: --bogus"),
        (["promote"], "Missing argument 'NAME'"),
        (["list", "-o", "xml"], "'xml' is not one of 'table', 'json', 'yaml'"),
        (["serve", "x", "--port", "99999"], "less than or equal to 65535"),
        (["serve", "x", "--workers", "0"], "'--workers': found '0', expected greater than or equal to 1. See"),
        (["serve", "x", "--threads", "few"], "'--threads': found 'few', expected a valid integer. See"),
        (["serve", "x", "--model-memory", "much"], "model_memory: found 'much', expected a size such as 512Mi"),
        (["serve", "x", "--limit", "rows"], "--limit: found 'rows', expected key=value"),
        (["serve", "x", "--limit", "bodies=5"], "Found the limit 'bodies', expected one of body, header, rows"),
        (["serve", "x", "--limit", "body=big"], "The limit body: found 'big', expected a size such as 512Mi"),
        (["serve", "x", "--limit", "rows=0"], "Limits: rows: Input should be greater than 0."),
        (["register", "m", "x", "--meta", "novalue"], "--meta: found 'novalue', expected key=value"),
        (["register", "m", "x", "--meta", "a=1", "--meta", "a=2"], "'a' is given twice"),
        (["evaluate", "m", "--target", "y"], "evaluate needs --data and --task"),
        (["evaluate", "m", "--from-run", "r"], "name it with --versions"),
        (["plan", "m", "-f", "no.yaml"], "no such file or directory: no.yaml"),
        (["diff", "m", "1", "2", "3"], "at most two revisions"),
        (["pin", "m"], "either a VERSION or --off"),
        (["pin", "m", "1", "--off"], "either a VERSION or --off"),
        (["explain", "m", "--data", "no.json"], "no such file or directory: no.json"),
        (["predict", "m", "--data", "x.csv", "--to", "x.xls"], "expected one of .parquet, .csv, .jsonl"),
        (["feedback", "log"], "either a DECISION or --data FILE"),
        (["feedback", "log", "a/0"], "needs --reward or --label"),
        (["feedback", "http://127.0.0.1:9", "a/0", "--reward", "1"], "doesn't answer: "),
        (["generate", "m", "--target", "no_such_target", "--to", "x"], "No plugin offers the target 'no_such_target'"),
        (["schema", "plam"], "Did you mean 'plan'?"),
        (["list", "--registry", "gopher://x"], "No registry plugin handles 'gopher://x'"),
        (["pull", "./nowhere", "--to", "x"], ""),
        (["explain", "nowhere/", "--data", "README.md"], ""),
    ],
)
def test_wrong_usage_is_one_clear_line(
    lepton: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    ran = lepton(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert told in ran.err
    assert "Traceback" not in ran.err


def test_debug_shows_where(lepton: Callable[..., Any]) -> None:
    ran = lepton("schema", "plam", "--debug")
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert "InvalidInput" in ran.err


def test_a_fault_of_ours_is_one_line_too(lepton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise ZeroDivisionError("by accident")

    monkeypatch.setattr("lepton_plugins.schemas.json_schema", fail)
    ran = lepton("schema", "plan")
    assert ran.code == 2
    assert ran.err.startswith("error: ZeroDivisionError: by accident")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "extra"),
    [("uvicorn", "serve"), ("pandas", "mlflow"), ("sklearn.metrics", "mlflow"), ("prometheus_client", "serve")],
)
def test_a_package_of_an_extra_that_is_not_installed_is_named_with_the_extra(
    lepton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    def fail(*given: object) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("lepton_plugins.schemas.json_schema", fail)
    ran = lepton("schema", "plan")
    assert ran.code == 2
    package = module.partition(".")[0]
    said = f"error: This needs the package {package!r}, which isn't installed here. Run: pip install "
    assert ran.err == f"{said}'lepton-plugins[{extra}]'\n"


def test_a_place_that_cannot_be_written_is_no_fault_of_ours(
    lepton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise OSError(ENOSPC, "No space left on device", "/data/answers.csv")

    monkeypatch.setattr("lepton_plugins.schemas.json_schema", fail)
    ran = lepton("schema", "plan")
    assert ran.code == 2
    assert ran.err.startswith("error: /data/answers.csv: No space left on device. Name a place that exists, has room")
    assert ran.err.count("\n") == 1


def test_common_options_stand_before_and_after_the_command(lepton: Callable[..., Any]) -> None:
    before = lepton("--registry", "gopher://x", "list")
    after = lepton("list", "--registry", "gopher://x")
    assert (before.code, before.err) == (after.code, after.err)
    assert "gopher://x" in after.err


def test_one_run_leaves_nothing_behind_for_the_next(lepton: Callable[..., Any]) -> None:
    assert "Traceback" in lepton("schema", "plam", "--debug").err
    assert "Traceback" not in lepton("schema", "plam").err


def test_an_interrupt_ends_quietly_with_130(lepton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lepton_plugins.schemas.json_schema", interrupt)
    ran = lepton("schema", "plan")
    assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_ctrl_c_in_a_real_process() -> None:
    code = (
        "import sys, time\nfrom lepton_plugins import schemas\n"
        "schemas.json_schema = lambda name: (print('waiting', flush=True), time.sleep(60))\n"
        "from lepton_plugins.cli.main import main\nsys.exit(main(['schema', 'plan']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


@pytest.mark.parametrize("arguments", [["schema", "plan"], ["plugins"], ["schema", "report", "-o", "yaml"]])
def test_a_reader_that_leaves_is_no_error(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen([*LEPTON, *arguments], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    _, err = process.communicate(timeout=30)
    assert err == ""
    assert process.returncode in (0, 1)


def test_colours_only_where_somebody_looks() -> None:
    plain = started("plugins", env={**os.environ, "TERM": "xterm-256color"})
    assert "\x1b[" not in plain.stdout + plain.stderr
    assert "\x1b[" not in started("lst").stderr


def test_completion_is_there() -> None:
    environment = {**os.environ, "_LEPTON_COMPLETE": "complete_bash", "COMP_WORDS": "lepton pro", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'lepton'\nfrom lepton_plugins.cli.main import main\nsys.exit(main([]))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=30
    )
    assert done.stdout.split() == ["promote"]


def test_main_returns_an_exit_code() -> None:
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    ("target", "options"), [("mlflow", []), ("bentoml", []), ("kserve", ["--models", "s3://bucket/models"])]
)
def test_generate_lists_the_files_that_it_wrote(
    target: str, options: list[str], lepton: Callable[..., Any], tmp_path: Path
) -> None:
    write_deployment(tmp_path / "deployment")
    to = tmp_path / "to"
    ran = lepton("generate", tmp_path / "deployment", "--target", target, "--to", to, *options, "-o", "json")
    assert ran.code == 0, ran.err
    written = sorted(path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file())
    told = json.loads(ran.out)
    next_command = told.pop("next", None)
    assert told == {"target": target, "directory": str(to), "files": written}
    expected = {
        "mlflow": f"mlflow models serve -m {to} --env-manager local",
        "bentoml": f"cd {to} && bentoml build service:Router",
    }
    if target in expected:
        assert next_command == expected[target]


def test_generate_tells_what_it_registered_and_what_comes_next(
    lepton: Callable[..., Any], sqlite_uri: str, tmp_path: Path
) -> None:
    write_deployment(tmp_path / "deployment")
    generate = ("generate", tmp_path / "deployment", "--target", "mlflow", "--register", "--registry", sqlite_uri)
    ran = lepton(*generate, "--to", tmp_path / "to")
    assert ran.code == 0, ran.err
    assert "registered: models:/line-router/1" in ran.err
    assert "next: mlflow models serve -m models:/line-router/1 --env-manager local" in ran.err
    # Lepton's own packages are one line among what is for reading.
    assert re.fullmatch(r"code/ \(\d+ files\)", next(line for line in ran.out.splitlines() if "code/" in line))
    assert {"MLmodel", "requirements.txt", "artifacts/deployment/plan.json"} <= set(ran.out.splitlines())
    ran = lepton(*generate, "--to", tmp_path / "again", "-o", "json")
    assert json.loads(ran.out)["registered"] == "models:/line-router/1", "the same bytes are registered once"


def test_generate_leaves_nothing_where_it_cannot_register(lepton: Callable[..., Any], tmp_path: Path) -> None:
    write_deployment(tmp_path / "deployment")
    (tmp_path / "mine").mkdir()
    for to in ("new", "mine"):
        ran = lepton(
            *("generate", tmp_path / "deployment", "--target", "mlflow", "--register", "--to", tmp_path / to),
            *("--registry", "nosuch://registry"),
        )
        assert ran.code == 2
    assert not (tmp_path / "new").exists()
    assert not list((tmp_path / "mine").iterdir())
