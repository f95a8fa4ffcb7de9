"""The quickstart's plan as a bento: built, served, asked with BentoML's own client.

lepton quickstart
python examples/bentoml_target/bentoml_target.py lepton-quickstart/deployment
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import bentoml

from lepton_plugins import ModelRegistry
from lepton_plugins.quickstart.flights import INPUTS, TRAFFIC, in_period, load_flights


def main(deployment: Path) -> None:
    with TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        options = {"cpu": "1", "memory": "512Mi", "max_concurrency": 64}
        ModelRegistry(f"sqlite:///{folder}/unused.db").generate(deployment, "bentoml", project, options)

        # A store of this example's own; leave the line out to use yours.
        environment = {**os.environ, "BENTOML_HOME": f"{folder}/bentoml", "BENTOML_DO_NOT_TRACK": "True"}
        command = [sys.executable, "-m", "bentoml"]
        build = [*command, "build", "service:Router", "--version", "v1"]
        subprocess.run(build, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        serve = [*command, "serve", "flights-router:v1", "--host", "127.0.0.1", "--port", port]
        server = subprocess.Popen(serve, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            ask(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            server.wait()


def ask(url: str) -> None:
    november = in_period(load_flights(), TRAFFIC[0])[list(INPUTS)].head(1000)
    # The client learns endpoints and types from the service.
    with bentoml.SyncHTTPClient(url, server_ready_timeout=120) as client:
        print(f"answered {len(client.predict(rows=november))} flights")
        told = client.decide(rows=november)
    print(told.groupby(["lepton_version", "lepton_reason"]).size().sort_values(ascending=False).head(8).to_string())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
