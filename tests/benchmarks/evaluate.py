"""Three versions × 100,000 rows × 10 slices with intervals: how long, and where the time goes.

    python tests/benchmarks/evaluate.py [--rows 100000] [--no-cost]

The bound is 20 s beyond the models' own predict time on two cores, without HTML, the saving to a SQLite
registry included.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from arguments import parser

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}

import numpy as np
import pandas as pd

BOUND = 20.0


def make(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({f"x{i}": rng.normal(size=rows) for i in range(12)})
    data["carrier"] = rng.choice(["AA", "UA", "DL", "9E", "B6", "EV"], size=rows)
    data["distance"] = rng.gamma(2, 300, size=rows).round()
    data["late"] = (data.x0 + data.x1 * (data.carrier == "UA") + rng.logistic(size=rows) > 0).astype(int)
    return data


def register(registry: Any, folder: Path) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    data = make(5000, 0)
    features = [f"x{i}" for i in range(12)]
    matrix = data[features].to_numpy("float32")
    for name, model in (("linear", LogisticRegression()), ("trees", GradientBoostingClassifier(n_estimators=40))):
        path = folder / f"{name}.onnx"
        graph = to_onnx(model.fit(matrix, data.late), matrix[:1], options={"zipmap": False})
        path.write_bytes(graph.SerializeToString())
        registry.register("flights", path, framework="onnx", label=name, metadata={})
    mlflow.sklearn.save_model(
        LogisticRegression(C=0.1).fit(data[features], data.late),
        str(folder / "sklearn"),
        signature=infer_signature(data[features], data.late),
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
    )
    registry.register("flights", folder / "sklearn", framework=None, label="sklearn", metadata={})


class Watch:
    """Seconds and CPU seconds in each stage. Waiting for a version's fresh process counts as its `load`."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.now, self.since, self.cpu_since = "read", time.perf_counter(), time.process_time()

    def _enter(self, stage: str) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        self.spent[self.now] += now - self.since
        self.cpu[self.now] += cpu - self.cpu_since
        self.now, self.since, self.cpu_since = stage, now, cpu

    def begin(self, versions: Any, rows: int) -> None:
        self._enter("fetch")

    def stage(self, version: Any, stage: str, total: int = 0) -> None:
        self._enter(stage)

    def advance(self, version: Any, done: int) -> None:
        """Rows aren't timed one by one."""

    def finish(self, version: Any, report: Any) -> None:
        assert report.ok, report.failure
        self._enter("end")


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--no-cost", action="store_true")
    given = arguments.parse_args()
    from lepton_mlflow.registry import MlflowRegistry
    from lepton_plugins.evaluation.compare import compare
    from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate

    with tempfile.TemporaryDirectory() as folder:
        registry = MlflowRegistry(f"sqlite:///{folder}/mlflow.db")
        register(registry, Path(folder))
        file = Path(folder) / "june.parquet"
        make(given.rows, 1).to_parquet(file)
        watch = Watch()
        begun, cpu = time.perf_counter(), time.process_time()
        reports = evaluate(
            registry,
            "flights",
            file,
            target="late",
            task="classification",
            slices=["carrier", "distance:4"],
            options=EvaluationOptions(trust="pickle", cost=not given.no_cost),
            progress=watch,
        )
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
        slices = {len(report.slices) for report in reports}
        print(f"{len(reports)} versions × {given.rows:,} rows × {slices} slices: {took:.1f} s ({cpu:.1f} s CPU)")
        for stage, seconds in sorted(watch.spent.items(), key=lambda item: -item[1]):
            print(f"  {stage:8} {seconds:6.2f} s  {watch.cpu[stage]:6.2f} s CPU")
        beyond = took - watch.spent["predict"]
        print(f"beyond the models' predict time: {beyond:.1f} s (bound {BOUND:.0f} s)")
        begun, cpu = time.perf_counter(), time.process_time()
        comparison = compare(registry, "flights")
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
        print(f"compare: {took:.1f} s ({cpu:.1f} s CPU), {len(comparison.slices)} slices")
        return int(beyond > BOUND)


if __name__ == "__main__":
    sys.exit(main())
