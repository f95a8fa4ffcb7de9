"""How long `lepton serve DIR` on three ONNX versions takes until it answers, and what it holds then.

    python tests/benchmarks/startup.py [--starts 15] [--directory DIR]

Bounds on two quiet cores: ready in 1.2 s, 150 MB resident; the data plane asks for 1.0 s and 130 MB.
Beside it stands the CPU that importing the packages alone takes, so that a slow machine is seen.
`--directory` names another deployment directory, such as the quickstart's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from arguments import parser

NEEDED = "import numpy, onnxruntime, prometheus_client, pydantic, starlette.applications, typer, uvicorn"


def make(folder: Path) -> Path:
    """Three versions of a classifier of twelve columns, under `weighted`, through the whole path to the directory."""
    import pandas as pd
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier

    from lepton_plugins.api import ModelRegistry
    from lepton_plugins.evaluation.options import EvaluationOptions

    random = np.random.default_rng(0)
    matrix = random.normal(size=(2000, 12)).astype("float32")
    registry = ModelRegistry(f"sqlite:///{folder}/mlflow.db")
    data = pd.DataFrame({f"x{index}": column for index, column in enumerate(matrix.T)})
    data["late"] = (data.x0 + data.x1**2 > 1).astype(int)
    for trees in (10, 20, 40):
        model = GradientBoostingClassifier(n_estimators=trees).fit(matrix, data.late)
        path = folder / f"trees{trees}.onnx"
        path.write_bytes(to_onnx(model, matrix[:1], options={"zipmap": False}).SerializeToString())
        registry.register_model("flights", path, model_framework="onnx")
    registry.evaluate("flights", data, target="late", task="classification", options=EvaluationOptions(cost=False))
    registry.plan({"model": "flights", "policy": "weighted", "default": 1})
    registry.promote("flights", why="benchmark")
    return registry.pull("flights", to=folder / "deployment")


def cpu_of_imports() -> float:
    """Seconds of CPU that importing what a server needs takes."""
    program = f"{NEEDED}; import time; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def start(directory: Path, folder: Path) -> tuple[float, float, float, float]:
    """Seconds until it answers, seconds of CPU, resident and proportional MB."""
    command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", str(directory), "--port", "0"]
    begun = time.perf_counter()
    server = subprocess.Popen([*command, "--decisions", str(folder / "log")], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        with urllib.request.urlopen(f"{url}/v2/health/ready") as answer:
            assert answer.status == 200
        took = time.perf_counter() - begun
        process = psutil.Process(server.pid)
        used, memory = process.cpu_times(), process.memory_full_info()
        return took, used.user + used.system, memory.rss / 2**20, memory.pss / 2**20
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--starts", type=int, default=15)
    arguments.add_argument("--directory", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        directory = given.directory or make(folder)
        load = os.getloadavg()[0]
        figures, imports = [], []
        for _ in range(given.starts):
            imports.append(cpu_of_imports())
            figures.append(start(directory, folder))
    wall, cpu, resident, proportional = zip(*figures, strict=True)
    print(f"{given.starts} starts on {os.cpu_count()} cores, load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    print(
        f"ready after    median {median(wall):.2f} s, min {min(wall):.2f} s, max {max(wall):.2f} s (1.2 s; asked 1.0 s)"
    )
    print(
        f"CPU            median {median(cpu):.2f} s, {median(cpu) / median(imports):.2f} × importing the packages alone"
    )
    print(f"resident       max {max(resident):.0f} MB, proportional {max(proportional):.0f} MB (150 MB; asked 130 MB)")


if __name__ == "__main__":
    main()
