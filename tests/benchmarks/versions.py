"""A plan of many versions of which few are loaded: seconds until it is ready, its memory, the cost of a cold version.

    python tests/benchmarks/versions.py [--versions 1000] [--loaded 20] [--rounds 3]

Each version is a logistic regression in ONNX of its own segment (30 floats). The server keeps as many bytes of
files loaded as `--loaded` of them have. Asked for: ready within 3 s.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from arguments import parser
from serving import FEATURES, deployments


def body(carrier: str) -> dict[str, object]:
    row = [round(0.1 * i, 3) for i in range(FEATURES)]
    inputs = [
        {"name": "X", "shape": [1, FEATURES], "datatype": "FP32", "data": row},
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": [carrier]},
    ]
    return {"inputs": inputs}


def measure(versions: int, loaded: int, rounds: int) -> dict[str, object]:
    made = deployments()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        deployment = made.build_deployment(home / "many", layout="tensors", features=FEATURES, versions=versions)
        size = next((deployment.path / "models").rglob("*.onnx")).stat().st_size
        ready, cpu, cold, warm, resident = [], [], [], [], 0.0
        command = [sys.executable, "-m", "lepton_plugins.cli.main", "serve", str(deployment.path), "--port", "0"]
        command += ["--model-memory", str((loaded + 1) * size), "--decisions", str(home / "decisions")]
        for _ in range(rounds):
            with made.run_server(deployment.path, home, command=command) as server:
                process = psutil.Process(server.process.pid)
                ready.append(server.ready_after)
                cpu.append(sum(process.cpu_times()[:2]))
                with httpx.Client(base_url=server.url, timeout=30) as client:
                    for number in np.random.default_rng(0).integers(1, versions, size=3 * loaded).tolist():
                        for taken in (cold, warm):
                            started = time.perf_counter()
                            answer = client.post("/v2/models/flights/infer", json=body(f"C{number}"))
                            taken.append(time.perf_counter() - started)
                            assert answer.headers["x-lepton-version"] == str(number + 1)
                    resident = process.memory_info().rss / 2**20
        return {
            "versions": versions,
            "ready_s": [round(value, 2) for value in sorted(ready)],
            "ready_cpu_s": [round(value, 2) for value in sorted(cpu)],
            "cold_ms": round(1000 * statistics.median(cold), 2),
            "warm_ms": round(1000 * statistics.median(warm), 2),
            "resident_mb": round(resident),
            "load": os.getloadavg()[0],
        }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--versions", type=int, default=1000)
    arguments.add_argument("--loaded", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    print(json.dumps(measure(given.versions, given.loaded, given.rounds), indent=2))


if __name__ == "__main__":
    main()
