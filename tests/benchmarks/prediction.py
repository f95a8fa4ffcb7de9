"""100,000 rows of a table through the router, as `lepton predict` and `mlflow models predict` run it.

    python tests/benchmarks/prediction.py [--rows 100000] [--rounds 5]

In one process, without start-up and files: `Router.predict` and the command's table of answers, and the `predict` of
the MLflow model that `lepton generate --target mlflow` renders. Beside them each of the three versions alone, bare, on
all rows: gradient-boosted trees of 60, 120 and 240 rounds as ONNX, routed by a segment. Asked for: at least 0.9 × the
throughput of the slowest version. Ratios are taken round by round.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import mlflow.pyfunc
import numpy as np
import onnx
import pandas as pd
from arguments import parser
from serving import deployments, ratio
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier

from lepton_plugins.cli.rows import answers_frame
from lepton_plugins.generate import generate
from lepton_plugins.routing.loading import load_version
from lepton_plugins.routing.router import Router

FEATURES = 12
ROUNDS = iter((60, 120, 240))


def write_trees(path: Path, weights: Sequence[float], layout: str) -> None:
    """A boosted classifier over one float32 matrix `X`, each time a larger one."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, FEATURES)).astype(np.float32)
    y = (x @ np.array(weights) + random.normal(size=2000) > 0).astype(int)
    fitted = GradientBoostingClassifier(n_estimators=next(ROUNDS), max_depth=4).fit(x, y)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(to_onnx(fitted, x[:1], options={"zipmap": False}, target_opset=17), path)


def predict(router: Router, frame: pd.DataFrame) -> pd.DataFrame:
    """What `lepton predict` does between reading and writing."""
    return answers_frame(router.predict(frame), router.plan, decisions=False)


def bare(model: Any, columns: dict[str, np.ndarray]) -> Any:
    return model.predict(columns, "proba")


def measure(rows: int, rounds: int) -> None:
    made = deployments()
    made.write_linear = write_trees
    random = np.random.default_rng(1)
    matrix = random.normal(size=(rows, FEATURES)).astype(np.float32)
    frame = pd.DataFrame({"X": list(matrix), "carrier": random.choice(["AA", "UA", "WN"], rows)})
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        deployment = made.build_deployment(home / "deployment", layout="tensors", features=FEATURES)
        generate(deployment.path, "mlflow", home / "rendered", {})
        router = Router.load(deployment.path)
        rendered = mlflow.pyfunc.load_model(str(home / "rendered"))
        subjects: dict[str, Callable[[], Any]] = {
            "lepton predict": partial(predict, router, frame),
            "mlflow models predict": partial(rendered.predict, frame),
        }
        for arm in deployment.plan.arms:
            files = deployment.path / "models" / arm.artifact_digest.removeprefix("sha256:")
            model, _, _ = load_version(files, arm.version)
            subjects[f"version {arm.version}"] = partial(bare, model, {"X": matrix})
        rates: dict[str, list[float]] = {name: [] for name in subjects}
        for number in range(rounds + 1):
            for name, run in subjects.items():
                start = perf_counter()
                run()
                if number:
                    rates[name].append(rows / (perf_counter() - start))
        router.close()
    slowest = min(
        (name for name in rates if name.startswith("version")), key=lambda name: statistics.median(rates[name])
    )
    shown: dict[str, Any] = {"load": [round(value, 1) for value in os.getloadavg()], "rows": rows, "slowest": slowest}
    for name, measured in rates.items():
        shown[name] = {"rows_per_s": round(statistics.median(measured))}
        if not name.startswith("version"):
            shown[name]["to_the_slowest"] = ratio(measured, rates[slowest])
    print(json.dumps(shown, indent=2))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    measure(given.rows, given.rounds)


if __name__ == "__main__":
    main()
