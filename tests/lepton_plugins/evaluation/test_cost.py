"""What a version costs: time, memory in a fresh process, size."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lepton_mlflow.backend_models import EstimatorModel
from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.errors import BackendUnseen, ModelFailed, OutputUnavailable, ProcessDied
from lepton_plugins.evaluation.cost import count_parameters, measure_latency, sklearn_parameters
from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate
from lepton_plugins.evaluation.version_process import VersionProcess
from lepton_plugins.records.plugin import BackendOffer
from lepton_plugins.records.version import ModelVersion

from .conftest import FEATURES, answering, save_estimator

PYFUNC = "lepton_mlflow.backend:PyfuncBackend"
ONNX = "lepton_onnxruntime.backend:OnnxRuntimeBackend"


class Sleeping:
    """Takes 2 ms and 10 µs a row."""

    signature = None
    classes = ("0", "1")

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def predict(self, columns: Mapping[str, Any], output: str) -> Any:
        rows = len(columns["x"])
        self.sizes.append(rows)
        time.sleep(0.002 + rows * 1e-5)
        return np.full((rows, 2), 0.5)

    def close(self) -> None: ...


def test_latency_by_batch_size_within_its_time() -> None:
    model = Sleeping()
    begun = time.perf_counter()
    found = measure_latency(model, {"x": np.arange(100.0)}, "proba", seconds=0.8)
    assert time.perf_counter() - begun < 2.5
    assert [item.batch_size for item in found] == [1, 8, 64, 512]
    assert set(model.sizes) == {1, 8, 64, 512}, "batches larger than the data repeat its rows"
    for item in found:
        assert 2.0 + item.batch_size * 0.01 <= item.p50_ms <= item.p95_ms <= item.p99_ms
        assert item.rows_per_second < item.batch_size / (0.002 + item.batch_size * 1e-5)


def test_a_slow_version_is_called_once_for_each_size() -> None:
    class Slow(Sleeping):
        def predict(self, columns: Mapping[str, Any], output: str) -> Any:
            time.sleep(0.1)
            return super().predict(columns, output)

    model = Slow()
    assert len(measure_latency(model, {"x": np.arange(9.0)}, "proba", seconds=0.01)) == 4
    assert len(model.sizes) == 8, "and once to warm up"


def _functions() -> tuple[Any, Any]:
    """Local ones are pickled by value: the fresh process doesn't know this module."""

    def half(rows: pd.DataFrame) -> Any:
        return np.full((len(rows), 2), 0.5)

    def hold_200_mb() -> None:
        import sys

        sys.held = np.ones(25_000_000)  # type: ignore[attr-defined]

    return half, hold_200_mb


half, hold_200_mb = _functions()


@contextmanager
def process(path: Path, target: str = PYFUNC) -> Iterator[VersionProcess]:
    """The version of one file, loaded in a process of its own."""
    running = VersionProcess(BackendOffer(name="under-test", summary="…", target=target), path, "1")
    try:
        running.wait()
        yield running
    finally:
        running.close()


def peak_memory(path: Path) -> Any:
    with process(path) as running:
        return running.memory({"x": np.arange(100.0)}, ("proba", "label"))


def test_memory_is_that_of_a_fresh_process(tmp_path: Path) -> None:
    ballast = np.ones(60_000_000)  # This process's size must not be the child's.
    small = save_estimator(answering(half), tmp_path / "small.pkl")
    large = save_estimator(answering(half, on_load=hold_200_mb), tmp_path / "large.pkl")
    low, gpu = peak_memory(small)
    high, _ = peak_memory(large)
    assert low.how == "measured"
    assert low.detail == "fresh process: load and one batch of 100 rows"
    assert gpu is None or gpu.value >= 0
    assert 20e6 < low.value < ballast.nbytes
    assert 180e6 < high.value - low.value < 230e6


def test_text_and_dates_reach_the_fresh_process_as_they_are(tmp_path: Path) -> None:
    def check(rows: pd.DataFrame) -> Any:
        assert rows.name.tolist()[:2] == ["a", None]
        assert str(rows.when.dtype) == "datetime64[ns]"
        assert rows.flag.dtype == bool
        assert rows.price.tolist()[:2] == [Decimal("1.10"), Decimal("2.20")]
        assert rows.count_.dtype == "int8"
        rows["flag"] = False  # A model may write into what it is given.
        return np.full((len(rows), 2), 0.5)

    columns = {
        "name": np.array(["a", None] * 40, dtype=object),
        "when": np.array(["2026-01-01"] * 80, dtype="M8[ns]"),
        "flag": np.array([True, False] * 40),
        "price": np.array([Decimal("1.10"), Decimal("2.20")] * 40, dtype=object),
        "count_": np.arange(80, dtype="int8"),
    }
    with process(save_estimator(answering(check), tmp_path / "m.pkl")) as running:
        answer = running.predict(columns, "proba")
    assert answer.shape == (80, 2)
    assert columns["flag"][0]


@pytest.mark.parametrize(
    "values",
    [
        ["late", "on time", None],
        [True, False, True],
        [1, 0, None],
        [1.5, -np.inf, None],
        [b"\x00\xff", None, b""],
        [np.int64(3), np.str_("x"), None],
    ],
)
def test_labels_come_back_as_they_are(tmp_path: Path, values: list[Any]) -> None:
    class Labels:
        classes_ = np.array([0, 1])

        def predict(self, rows: pd.DataFrame) -> Any:
            return np.array(values, dtype=object)

    with process(save_estimator(Labels(), tmp_path / "m.pkl")) as running:
        assert running.classes == ("0", "1")
        with pytest.raises(OutputUnavailable, match="no predict_proba"):
            running.predict({"x": np.arange(3.0)}, "proba")
        assert running.predict({"x": np.arange(3.0)}, "label").tolist() == values


def test_what_a_version_raises_is_told_and_it_goes_on_answering(tmp_path: Path) -> None:
    def sometimes(rows: pd.DataFrame) -> Any:
        print("between us", flush=True)
        if rows.x[0] > 0:
            raise KeyError("no such column")
        if rows.x[0] < 0:
            raise SystemExit(3)
        return np.full((len(rows), 2), 0.5)

    with process(save_estimator(answering(sometimes), tmp_path / "m.pkl")) as running:
        with pytest.raises(ModelFailed, match="failed to predict: KeyError: 'no such column'"):
            running.predict({"x": np.ones(2)}, "proba")
        with pytest.raises(ModelFailed, match="failed to predict: SystemExit: 3"):
            running.predict({"x": -np.ones(2)}, "proba")
        assert running.predict({"x": np.zeros(2)}, "proba").shape == (2, 2)


def test_a_backend_that_only_this_process_knows_is_told_so(
    own: MlflowRegistry,
    register: Callable[..., ModelVersion],
    trained: dict[str, Path],
    flights: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from types import ModuleType, SimpleNamespace

    from lepton_onnxruntime.backend import OnnxRuntimeBackend
    from lepton_plugins import hookimpl
    from lepton_plugins.plugins import Plugins

    def plugin(target: str) -> Plugins:
        offered = BackendOffer(name="mine", summary="…", target=target, priority=1000)
        known = Plugins()
        known.load_entry_points()
        known.register(SimpleNamespace(lepton_backends=hookimpl(lambda: [offered])), "by hand")
        return known

    def evaluated(known: Plugins, cost: bool = True) -> Any:
        for module in ("evaluation.candidate", "routing.loading"):
            monkeypatch.setattr(f"lepton_plugins.{module}.plugins", lambda: known)
        data = flights[[*FEATURES, "late"]]
        options = EvaluationOptions(cost=cost, cost_seconds=0.05)
        return evaluate(own, "flights", data, target="late", task="classification", options=options)[0]

    register(trained["linear"])
    notebook = ModuleType("a_notebook")
    notebook.Mine = OnnxRuntimeBackend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    here = plugin("a_notebook:Mine")
    refused = evaluated(here)
    assert refused.failure is not None
    assert (refused.failure.stage, refused.failure.code) == ("load", BackendUnseen.code)
    assert "'mine'" in refused.failure.reason
    assert "No module named 'a_notebook'" in refused.failure.reason
    assert "--no-cost" in refused.failure.reason
    without = evaluated(here, cost=False)
    assert (without.ok, without.backend) == (True, "mine")

    (tmp_path / "a_module_of_mine.py").write_text(
        "from lepton_onnxruntime.backend import OnnxRuntimeBackend\n\n\nclass Mine(OnnxRuntimeBackend):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    report = evaluated(plugin("a_module_of_mine:Mine"))
    assert (report.ok, report.backend) == (True, "mine"), "registered by hand, in a module: seen"
    assert report.resources.peak_memory is not None


def test_a_version_that_takes_its_process_down_does_so_there(tmp_path: Path) -> None:
    def die() -> None:
        import signal

        os.kill(os.getpid(), signal.SIGSEGV)

    def leave() -> None:

        os._exit(7)

    with pytest.raises(ProcessDied, match="signal 11"):
        peak_memory(save_estimator(answering(half, on_load=die), tmp_path / "die.pkl"))
    with pytest.raises(ProcessDied, match="exit code 7"):
        peak_memory(save_estimator(answering(half, on_load=leave), tmp_path / "leave.pkl"))


def test_the_fresh_process_of_an_onnx_model_imports_only_what_it_needs(trained: dict[str, Path]) -> None:
    import subprocess

    script = (
        "import sys; from pathlib import Path; import lepton_plugins.evaluation.version_worker\n"
        "from lepton_onnxruntime.backend import OnnxRuntimeBackend as B; import numpy as np\n"
        "B().load(Path(sys.argv[1])).predict({'X': np.zeros((2, 4), 'float32')}, 'proba')\n"
        "print([m for m in ('mlflow', 'pandas', 'scipy', 'sklearn', 'matplotlib', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(trained["linear"])], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_parameters_are_counted(trained: dict[str, Path]) -> None:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 3)), rng.integers(0, 2, 80)
    assert sklearn_parameters(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)) == 4
    assert sklearn_parameters(MLPClassifier((5,), max_iter=5).fit(x, y)) == 3 * 5 + 5 + 5 + 1
    forest = RandomForestRegressor(3, max_depth=2, random_state=0).fit(x, y)
    assert sklearn_parameters(forest) == sum(2 * tree.tree_.node_count for tree in forest.estimators_)
    assert (sklearn_parameters(GradientBoostingClassifier(n_estimators=2).fit(x, y)) or 0) > 10
    assert sklearn_parameters(object()) is None
    estimator = EstimatorModel(LogisticRegression().fit(x, y), None)
    assert count_parameters(trained["bare"], estimator) == 4
    # A scaler's offsets and scales, and for each of two classes four coefficients and an intercept.
    assert count_parameters(trained["linear"], Sleeping()) == 4 + 4 + 2 * (4 + 1)  # type: ignore[arg-type]


def test_the_report_holds_what_it_costs(
    own: MlflowRegistry,
    register: Callable[..., ModelVersion],
    trained: dict[str, Path],
    flights: pd.DataFrame,
    tmp_path: Path,
) -> None:
    register(trained["linear"])
    options = EvaluationOptions(cost_seconds=0.2)
    data = flights[[*FEATURES, "late"]]
    (report,) = evaluate(own, "flights", data, target="late", task="classification", options=options)
    assert [item.batch_size for item in report.latency] == [1, 8, 64, 512]
    assert report.resources.artifact_bytes is not None
    assert report.resources.artifact_bytes >= trained["linear"].stat().st_size
    assert report.resources.parameters == 18
    assert report.resources.peak_memory is not None
    assert 20e6 < report.resources.peak_memory.value < 250e6
    assert report.environment is not None
    assert report.environment.cpus >= 1
    assert "onnxruntime" in report.environment.packages
