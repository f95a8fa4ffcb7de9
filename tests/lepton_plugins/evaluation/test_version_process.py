"""Where cost is measured, each version has a process of its own: loaded once there, and nowhere else to die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest

from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate
from lepton_plugins.records.report import EvaluationReport

from .conftest import FEATURES, Register, answering, save_estimator

COSTLY = EvaluationOptions(cost_seconds=0.1, trust="pickle", dataset_name="june")


def run(registry: MlflowRegistry, data: pd.DataFrame, **options: Any) -> list[EvaluationReport]:
    asked = COSTLY.model_copy(update=options)
    return evaluate(registry, "flights", data, target="late", task="classification", options=asked)


def pyfunc(path: Path, load: Callable[[], None], predict: Callable[[pd.DataFrame], Any]) -> Path:
    """A custom pyfunc, held by value: `load` is its load_context, `predict` answers with probabilities."""

    class Custom(mlflow.pyfunc.PythonModel):
        def load_context(self, context: Any) -> None:
            load()

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return predict(model_input)

    mlflow.pyfunc.save_model(str(path), python_model=Custom(), pip_requirements=["pandas"])
    return path


def test_files_are_copied_once_and_loaded_once_with_cost(
    own: MlflowRegistry,
    register: Register,
    flights: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "loads"

    def loaded(name: str) -> Callable[[], None]:
        def note() -> None:
            import os

            with log.open("a") as stream:
                stream.write(f"{name} {os.getpid()}\n")

        return note

    def half(rows: pd.DataFrame) -> Any:
        return pd.DataFrame({"0": np.full(len(rows), 0.5), "1": np.full(len(rows), 0.5)})

    register(pyfunc(tmp_path / "first", loaded("first"), half), framework="pyfunc")
    register(save_estimator(answering(half, on_load=loaded("second")), tmp_path / "second.pkl"))
    log.unlink(missing_ok=True)
    fetched: list[str] = []
    fetch = own.fetch
    monkeypatch.setattr(own, "fetch", lambda version, to: fetched.append(version.version) or fetch(version, to))
    reports = run(own, flights[[*FEATURES, "late"]], chunk_rows=500)
    assert [report.failure for report in reports] == [None, None]
    for report in reports:
        assert report.resources.peak_memory is not None
        assert [item.batch_size for item in report.latency] == [1, 8, 64, 512]
        assert report.metrics["accuracy"].n == len(flights)
    assert fetched == ["1", "2"]
    names, processes = zip(*(line.split() for line in log.read_text().splitlines()), strict=True)
    assert names == ("first", "second"), "each loaded once"
    assert len({*processes, str(os.getpid())}) == 3, "each in a process of its own"


def test_versions_that_take_their_process_down_have_a_report_that_says_so_and_the_others_go_on(
    own: MlflowRegistry, register: Register, trained: dict[str, Path], flights: pd.DataFrame, tmp_path: Path
) -> None:
    def half(rows: pd.DataFrame) -> Any:
        return np.full((len(rows), 2), 0.5)

    def nothing() -> None: ...

    def abort(rows: pd.DataFrame) -> Any:
        import os
        import sys

        if len(rows) < 1000:  # Not when its memory is measured.
            return np.full((len(rows), 2), 0.5)
        print("double free or corruption (out)", file=sys.stderr, flush=True)
        os.abort()

    def segfault() -> None:
        import ctypes

        ctypes.string_at(0)

    def out_of_memory(rows: pd.DataFrame) -> Any:
        """What the kernel does to a process that takes too much."""
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    def leave(rows: pd.DataFrame) -> Any:
        import os

        os._exit(7)

    register(trained["linear"])
    register(pyfunc(tmp_path / "abort", nothing, abort), framework="pyfunc")
    register(save_estimator(answering(half, on_load=segfault), tmp_path / "segfault.pkl"))
    for predict in (out_of_memory, leave):
        register(save_estimator(answering(predict), tmp_path / f"{predict.__name__}.pkl"))
    register(trained["trees"])
    reports = run(own, flights[[*FEATURES, "late"]], chunk_rows=1000)
    found = [(r.failure.stage, r.failure.code) if r.failure else None for r in reports]
    assert found == [
        None,
        ("predict", "process_died"),
        ("load", "process_died"),
        ("predict", "process_died"),
        ("predict", "process_died"),
        None,
    ]
    reasons = [report.failure.reason if report.failure else "" for report in reports]
    assert "signal 6 (SIGABRT); it last said: double free or corruption (out)" in reasons[1]
    assert "signal 11 (SIGSEGV)" in reasons[2]
    assert "signal 9 (SIGKILL), which the system sends where memory runs out" in reasons[3]
    assert "exit code 7" in reasons[4]
    for report in reports:
        assert own.get_report("flights", report.version) == report


def test_a_version_that_hangs_is_given_up_and_ended(
    own: MlflowRegistry, register: Register, flights: pd.DataFrame, tmp_path: Path
) -> None:
    witness = tmp_path / "pid"

    def hang(rows: pd.DataFrame) -> Any:
        import os
        import time

        witness.write_text(str(os.getpid()))
        time.sleep(600)

    register(save_estimator(answering(hang), tmp_path / "hang.pkl"))
    (report,) = run(own, flights[["x0", "late"]], time_limit=8.0)
    assert report.failure is not None
    assert (report.failure.stage, report.failure.code) == ("predict", "timed_out")
    assert "didn't predict within 8 s" in report.failure.reason
    assert gone(int(witness.read_text()))


SCRIPT = """
import sys
import numpy as np, pandas as pd
from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate

data = pd.DataFrame({"x": np.arange(100.0), "late": np.arange(100) % 2})
options = EvaluationOptions(trust="pickle")
evaluate(MlflowRegistry(sys.argv[1]), "flights", data, target="late", task="classification", options=options)
"""


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_who_ends_an_evaluation_ends_its_processes(
    own: MlflowRegistry, register: Register, sqlite_uri: str, tmp_path: Path, signal_: signal.Signals
) -> None:
    witness = tmp_path / "pids"

    def at_work(rows: pd.DataFrame) -> Any:
        import os
        import subprocess
        import sys
        import time

        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        witness.with_suffix(".new").write_text(f"{os.getpid()} {started.pid}")
        witness.with_suffix(".new").rename(witness)
        time.sleep(600)

    register(save_estimator(answering(at_work), tmp_path / "m.pkl"))
    evaluating = subprocess.Popen([sys.executable, "-c", SCRIPT, sqlite_uri], stderr=subprocess.PIPE)
    try:
        wait_until(witness.exists)
        version, started = map(int, witness.read_text().split())
        evaluating.send_signal(signal_)
        evaluating.communicate(timeout=30)
        wait_until(lambda: gone(version) and gone(started))
    finally:
        evaluating.kill()
        evaluating.wait()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
