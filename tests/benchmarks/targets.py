"""What each target costs on one plan: start-up, resident memory, the latency of a single row, the artefact's size.

    python tests/benchmarks/targets.py [--seconds 3] [--rounds 5] [--versions 3]

Every server runs as its target starts it, one worker each, on the same three ONNX versions of 30 columns. Beside
each stands the same kind of server without Lepton, with one version: MLflow's scoring server on the same columns;
a Bento of ten lines and KServe's Python server on one array of 30 numbers, which spares them the columns.
Start-up is from the process's start to its first answer; memory is the resident set of all its processes; latency
is one connection's, kept alive, the servers taking turns. Size is what is rendered, and in it what is Lepton's
own. The machine's load is printed: trust the ratios.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import peers
import psutil
import serving
import yaml
from arguments import parser
from load import Client
from started import Running, started

from lepton_plugins.generate import generate

FEATURES = 30

#: What `subjects` can start.
TARGETS = ("lepton serve", "mlflow", "bentoml", "kserve")

KSERVE = "kserve"
INFER = "/v2/models/flights/infer"
PYTHON = [sys.executable, "-m"]


def resident(process: int) -> float:
    """MB of a process and all below it."""
    root = psutil.Process(process)
    return float(sum(item.memory_info().rss for item in (root, *root.children(recursive=True))) / 1e6)


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def subjects(
    deployment: Path, home: Path, stack: ExitStack, wanted: Sequence[str] = TARGETS
) -> Iterator[tuple[str, Running, Path | None, str]]:
    """Name, server, what was rendered, and the folder of Lepton's packages in it; the targets are started in turn."""
    record, v2 = one_row()
    if "lepton serve" in wanted:
        yield "lepton serve", stack.enter_context(lepton(deployment, home, v2)), deployment, ""
    if "mlflow" in wanted:
        made = home / "mlflow"
        generate(deployment, "mlflow", made, {})
        yield "mlflow", stack.enter_context(peers.mlflow(made, home, {"dataframe_records": [record]})), made, "code"
    if "bentoml" in wanted:
        made = home / "bentoml"
        generate(deployment, "bentoml", made, {})
        running = stack.enter_context(bento(made, home, v2))
        yield "bentoml", running, made, "packages"
        typed = running._replace(path="/predict", body=json.dumps({"rows": [record]}).encode())
        yield "bentoml /predict", typed, None, ""
    if "kserve" in wanted:
        yield (
            "kserve",
            stack.enter_context(predictor(deployment, deployment, home, v2)),
            home / KSERVE,
            "image/packages",
        )


def one_row() -> tuple[dict[str, Any], dict[str, Any]]:
    """A row as a record and as a request of V2."""
    row = [round(0.1 * number, 3) for number in range(FEATURES)]
    names = [f"x{number}" for number in range(FEATURES)]
    record = {**dict(zip(names, row, strict=True)), "carrier": "AA"}
    inputs = [{"name": n, "shape": [1], "datatype": "FP64", "data": [v]} for n, v in zip(names, row, strict=True)]
    inputs.append({"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["AA"]})
    return record, {"inputs": inputs}


def lepton(deployment: Path, home: Path, body: Any) -> AbstractContextManager[Running]:
    command = [*PYTHON, "lepton_plugins.cli.main", "serve", str(deployment), "--decisions", str(home / "decisions")]
    return started(lambda port: [*command, "--port", str(port)], home, INFER, peers.encoded(body))


def bento(made: Path, home: Path, body: Any) -> AbstractContextManager[Running]:
    """Built and served; V2 is mounted beside its own routes."""
    env = {"BENTOML_HOME": str(home / "bentoml-home"), "BENTOML_DO_NOT_TRACK": "True"}
    build = [*PYTHON, "bentoml", "build", "service:Router", "--version", "v1"]
    subprocess.run(build, cwd=made, env={**os.environ, **env}, check=True, capture_output=True)
    command = [*PYTHON, "bentoml", "serve", "flights-router:v1", "--host", "127.0.0.1", "--port"]
    return started(lambda port: [*command, str(port)], home, INFER, peers.encoded(body), **env)


def predictor(deployment: Path, mounted: Path, home: Path, body: Any) -> AbstractContextManager[Running]:
    """The container's command of the deployment's InferenceService, its places being folders here."""
    made = home / KSERVE
    generate(deployment, "kserve", made, {"models": "s3://bucket/models"})
    service = yaml.safe_load((made / "inferenceservice.yaml").read_text())
    (container,) = service["spec"]["predictor"]["containers"]
    shutil.copytree(mounted, home / "mnt")
    places = {"python": sys.executable, "/mnt": str(home / "mnt")}
    places["file:///var/lib/lepton/decisions"] = f"file://{home}/decisions"
    places["file:///var/lib/lepton/learning"] = f"file://{home}/learning"
    words = (*container["command"], *container["args"])

    def command(port: int) -> list[str]:
        return [(places | {"8080": str(port)}).get(word, word) for word in words]

    return started(command, home, INFER, peers.encoded(body), PYTHONPATH=str(made / "image" / "packages"))


def columns_model(model: Path, path: Path) -> Path:
    """An ONNX file that takes `X`, logged with a signature of columns: MLflow makes the array of them."""
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = Schema([ColSpec("double", f"x{number}") for number in range(FEATURES)])
    mlflow.onnx.save_model(onnx.load(model), path, signature=ModelSignature(inputs=inputs))
    return path


def without_lepton(model: Path, home: Path, stack: ExitStack) -> Iterator[tuple[str, Running, Path | None, str]]:
    """The same kinds of servers with one version; `model` is an ONNX file that takes `X`."""
    row = [round(0.1 * number, 3) for number in range(FEATURES)]
    made = columns_model(model, home / "mlflow-alone")
    body: dict[str, Any] = {"dataframe_records": [{f"x{number}": value for number, value in enumerate(row)}]}
    yield "MLflow alone", stack.enter_context(peers.mlflow(made, home, body)), made, ""
    yield "BentoML alone", stack.enter_context(peers.bentoml(model, home, {"x": [row]})), model.parent, ""
    body = {"inputs": [{"name": "X", "shape": [1, FEATURES], "datatype": "FP32", "data": row}]}
    yield "KServe alone", stack.enter_context(peers.kserve(model, home, body)), model.parent, ""


def measure(seconds: float, rounds: int, versions: int) -> None:
    made = serving.deployments()
    with tempfile.TemporaryDirectory(prefix="lepton-targets-") as folder, ExitStack() as stack:
        home = Path(folder)
        plan = made.build_deployment(home / "deployment", features=FEATURES, versions=versions)
        one = made.build_deployment(home / "one", layout="tensors", features=FEATURES, versions=1)
        model = next((one.path / "models").glob("*/model.onnx"))
        found: dict[str, tuple[Running, Path | None, str]] = {}
        for name, running, rendered, own in (
            *subjects(plan.path, home, stack),
            *without_lepton(model, home, stack),
        ):
            found[name] = (running, rendered, own)
            print(f"{name}: started", file=sys.stderr, flush=True)
        clients = {name: Client(item.url, item.path, item.body, 1) for name, (item, _, _) in found.items()}
        latencies: dict[str, list[float]] = {name: [] for name in clients}
        for number in range(rounds + 1):
            for name, client in clients.items():
                load = client.run(seconds)
                if number:
                    latencies[name].append(load.p50)
        print(f"{'':20} {'start s':>8} {'RSS MB':>8} {'p50 ms':>8} {'MB':>7} {'Lepton MB':>10}")
        for name, (running, folder_of, own) in found.items():
            size = f"{megabytes(folder_of):7.2f}" if folder_of else f"{'':7}"
            carried = f"{megabytes(folder_of / own):10.2f}" if folder_of and own else f"{'':10}"
            p50 = 1000 * statistics.median(latencies[name])
            print(f"{name:20} {running.seconds:8.1f} {resident(running.process):8.0f} {p50:8.2f} {size} {carried}")
        print(
            f"load of the machine: {', '.join(f'{value:.1f}' for value in os.getloadavg())} on {os.cpu_count()} cores"
        )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--versions", type=int, default=3)
    given = arguments.parse_args()
    measure(given.seconds, given.rounds, given.versions)


if __name__ == "__main__":
    main()
