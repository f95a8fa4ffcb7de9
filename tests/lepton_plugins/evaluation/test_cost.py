"""What a version costs: time, memory in a fresh process, size."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lepton_mlflow.backend_models import EstimatorModel
from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.errors import ProcessDied, TimedOut
from lepton_plugins.evaluation.cost import count_parameters, measure_latency, sklearn_parameters
from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate
from lepton_plugins.evaluation.footprint import Footprint
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


def footprint(path: Path, target: str = PYFUNC, limit: float = 60.0, **columns: Any) -> Any:
    return Footprint(target, path, columns or {"x": np.arange(100.0)}, "proba", 64).wait("1", limit)


def test_memory_is_that_of_a_fresh_process(tmp_path: Path) -> None:
    ballast = np.ones(60_000_000)  # This process's size must not be the child's.
    small = save_estimator(answering(half), tmp_path / "small.pkl")
    large = save_estimator(answering(half, on_load=hold_200_mb), tmp_path / "large.pkl")
    low, gpu, why = footprint(small)
    high, _, _ = footprint(large)
    assert low.how == "measured"
    assert why == ""
    assert gpu is None or gpu.value >= 0
    assert 20e6 < low.value < ballast.nbytes
    assert 180e6 < high.value - low.value < 230e6


def test_text_and_dates_reach_the_fresh_process_as_they_are(tmp_path: Path) -> None:
    def check(rows: pd.DataFrame) -> Any:
        assert rows.name.tolist()[:2] == ["a", None]
        assert str(rows.when.dtype) == "datetime64[ns]"
        assert rows.flag.dtype == bool
        return np.full((len(rows), 2), 0.5)

    path = save_estimator(answering(check), tmp_path / "m.pkl")
    peak, _, why = footprint(
        path,
        name=np.array(["a", None] * 40, dtype=object),
        when=np.array(["2026-01-01"] * 80, dtype="M8[ns]"),
        flag=np.array([True, False] * 40),
    )
    assert why == ""
    assert peak is not None


def test_a_version_that_takes_its_process_down_does_so_there(tmp_path: Path) -> None:
    def die() -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGSEGV)

    def leave() -> None:
        import os

        os._exit(7)

    def sleep() -> None:
        import time

        time.sleep(60)

    with pytest.raises(ProcessDied, match="signal 11"):
        footprint(save_estimator(answering(half, on_load=die), tmp_path / "die.pkl"))
    with pytest.raises(ProcessDied, match="exit code 7"):
        footprint(save_estimator(answering(half, on_load=leave), tmp_path / "leave.pkl"))
    with pytest.raises(TimedOut, match="within 3 s"):
        footprint(save_estimator(answering(half, on_load=sleep), tmp_path / "sleep.pkl"), limit=3.0)


def test_the_fresh_process_of_an_onnx_model_imports_only_what_it_needs(trained: dict[str, Path]) -> None:
    import subprocess
    import sys

    script = (
        "import json, sys; from pathlib import Path; import lepton_plugins.evaluation.footprint\n"
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
    def die() -> None:
        import os

        if (home := os.environ.get("LEPTON_TEST_PARENT")) and home != str(os.getpid()):
            os.abort()

    register(trained["linear"])
    register(save_estimator(answering(half, on_load=die), tmp_path / "dies.pkl"))
    os.environ["LEPTON_TEST_PARENT"] = str(os.getpid())
    try:
        options = EvaluationOptions(cost_seconds=0.2, trust="pickle")
        data = flights[[*FEATURES, "late"]]
        report, dead = evaluate(own, "flights", data, target="late", task="classification", options=options)
    finally:
        del os.environ["LEPTON_TEST_PARENT"]
    assert [item.batch_size for item in report.latency] == [1, 8, 64, 512]
    assert report.resources.artifact_bytes is not None
    assert report.resources.artifact_bytes >= trained["linear"].stat().st_size
    assert report.resources.parameters == 18
    assert report.resources.peak_memory is not None
    assert 20e6 < report.resources.peak_memory.value < 250e6
    assert report.environment is not None
    assert report.environment.cpus >= 1
    assert "onnxruntime" in report.environment.packages
    assert dead.failure is not None
    assert (dead.failure.stage, dead.failure.code) == ("load", "process_died")
    assert "signal 6 (SIGABRT)" in dead.failure.reason
