"""The quickstart's plan for KServe: manifests, and the predictor's process as its container starts it.

lepton quickstart
python examples/kserve_target/kserve_target.py lepton-quickstart/deployment
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import yaml

from lepton_plugins import ModelRegistry
from lepton_plugins.quickstart.flights import INPUTS, NAMES, TRAFFIC, in_period, load_flights


def main(deployment: Path) -> None:
    with TemporaryDirectory() as folder:
        # A claim that is mounted here stands for the cluster's; s3://bucket/flights would do as well.
        claim, manifests = Path(folder) / "claim", Path(folder) / "manifests"
        claim.mkdir()
        options = {"upload": "pvc://models/flights", "mount": str(claim), "namespace": "ml", "cpu": "1"}
        files = ModelRegistry(f"sqlite:///{folder}/unused.db").generate(deployment, "kserve", manifests, options)
        print("\n".join(path.as_posix() for path in files if path.parts[0] != "image"))

        # What the storage initializer and the ConfigMap make of /mnt in the pod.
        pod = Path(folder) / "mnt"
        copytree(claim / "flights", pod / "models")
        plan = yaml.safe_load((manifests / "plan.yaml").read_text())
        (pod / "plan.json").write_text(plan["data"]["plan.json"])
        predictor = yaml.safe_load((manifests / "inferenceservice.yaml").read_text())["spec"]["predictor"]
        (container,) = predictor["containers"]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        here = {"python": sys.executable, "/mnt": str(pod), "8080": port}
        here["file:///var/lib/lepton/decisions"] = f"file://{folder}/decisions"
        here["file:///var/lib/lepton/learning"] = f"file://{folder}/learning"
        command = [here.get(word, word) for word in (*container["command"], *container["args"])]
        server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(manifests / "image" / "packages")})
        try:
            ask(f"http://127.0.0.1:{port}", container["readinessProbe"]["httpGet"]["path"])
        finally:
            server.terminate()
            server.wait()


def ask(url: str, ready: str) -> None:
    import kserve
    from kserve.inference_client import InferenceRESTClient, RESTConfig

    wait_for(url + ready)
    november = in_period(load_flights(), TRAFFIC[0])[list(INPUTS)].head(1000)
    inputs = [
        kserve.InferInput(name, [len(november)], "BYTES" if name in NAMES else "INT64", november[name].tolist())
        for name in INPUTS
    ]
    request = kserve.InferRequest(model_name="flights", infer_inputs=inputs)
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    answer = asyncio.run(client.infer(url, request, model_name="flights"))
    late = answer.outputs[0].as_numpy().reshape(len(november), -1)[:, 1]
    print(f"answered {len(late)} flights, {late.mean():.0%} of them expected late")


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urlopen(url)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the predictor didn't start")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    given = Path(sys.argv.pop())  # KServe reads the command line when it is imported.
    main(given)
