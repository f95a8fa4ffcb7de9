"""The target `lepton-bentoml` of `mlflow deployments`: a router as a bento, served on this machine.

Imported by MLflow only.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow.deployments import BaseDeploymentClient

from lepton_bentoml.running import RunningBento, RunningBentos, check_free, told_to_end
from lepton_mlflow.deployable import deployment_of, predicted, refusals, seconds_of
from lepton_plugins.errors import DeploymentExists, DeploymentFailed, InvalidInput
from lepton_plugins.routing.directory import DeploymentDirectory

if TYPE_CHECKING:
    import pandas as pd

TARGET = "lepton-bentoml"
FLAVOR = "lepton"

_OWN = {"host": "127.0.0.1", "port": "3000", "timeout": "120", "revision": ""}
_BENTOML = [sys.executable, "-m", "bentoml"]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_HELP = """lepton-bentoml: a plan's versions behind one router, as a bento that runs on this machine.

Model:  models:/NAME/plan (the plan in force of NAME), models:/NAME-router/1 (a router that `lepton generate --target
        mlflow` registered), or a path to either.

  mlflow deployments create -t lepton-bentoml -m models:/flights/plan --name flights -C port=3000

builds the bento flights:PLAN in BentoML's store and serves it in a process of its own, which stays after the command;
`delete` ends it and leaves the bento. `bentoml containerize flights:PLAN` and `bentoml deploy` take it elsewhere.

-C host=127.0.0.1   where it listens; other addresses need LEPTON_TOKEN for admin routes
-C port=3000
-C timeout=120      seconds to wait for readiness
-C revision=4       of models:/NAME/plan, another plan than the one in force
-C KEY=VALUE        every option of `lepton generate --target bentoml --help`: cpu, memory, workers, max_concurrency …

run-local does the same in the foreground, until interrupted. State and logs: $BENTOML_HOME/lepton-deployments.
"""


def target_help() -> str:
    """What `mlflow deployments help -t lepton-bentoml` prints."""
    return _HELP


def run_local(name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, Any] | None = None) -> None:
    """Build the bento and serve it in the foreground until interrupted."""
    with refusals(), TemporaryDirectory(prefix="lepton-") as folder, told_to_end():
        own, given = _options(name, config)
        tag, _ = _built(name, model_uri, own["revision"], given, Path(folder))
        process = subprocess.Popen(_serve(tag, own["host"], own["port"]))
        try:
            process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()


class BentomlDeployments(BaseDeploymentClient):
    """Deployments are server processes of this user on this machine."""

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)  # type: ignore[no-untyped-call]
        self._running = RunningBentos()

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Build a bento, serve it, wait until it is ready."""
        with refusals(), TemporaryDirectory(prefix="lepton-") as folder:
            own, given = _options(name, config)
            if self._running.find(name) is not None:
                raise DeploymentExists(name, str(self._running.folder))
            check_free(own["host"], int(own["port"]))  # Before a bento is built for nothing.
            tag, directory = _built(name, model_uri, own["revision"], given, Path(folder))
            return _described(self._start(name, tag, directory, own))

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Build another bento while the old one serves, then serve it in its place; where it fails, the old one."""
        with refusals(), TemporaryDirectory(prefix="lepton-") as folder:
            old = self._running.get(name)
            if model_uri is None:
                raise InvalidInput("update needs -m: the options apply to a plan. Name it again: -m models:/NAME/plan")
            own, given = _options(name, {"host": old.host, "port": old.port, **(config or {})})
            tag, directory = _built(name, model_uri, own["revision"], given, Path(folder))
            self._running.delete(name)
            try:
                return _described(self._start(name, tag, directory, own))
            except Exception:
                self._running.start(
                    name,
                    old.tag,
                    plan=old.plan,
                    model=old.model,
                    host=old.host,
                    port=old.port,
                    seconds=max(seconds_of(own["timeout"]), seconds_of(_OWN["timeout"])),
                )
                raise

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """End the process; the bento stays in BentoML's store. One that isn't there is no error."""
        with refusals():
            self._running.delete(name)

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """The deployments of this user on this machine, whether they run or not."""
        return [_described(item) for item in self._running.list()]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """Name, bento, url, process, whether it runs, the plan's digest."""
        with refusals():
            return _described(self._running.get(name))

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> pd.DataFrame:
        """Answers for a DataFrame, a row each."""
        with refusals():
            found = self._running.get(str(deployment_name))
            if not found.runs:
                raise DeploymentFailed(found.name, f"its process has ended; its log is {self._running.log(found.name)}")
            return predicted(found.name, found.url, inputs, model=found.model)

    def _start(self, name: str, tag: str, directory: Path, own: Mapping[str, str]) -> RunningBento:
        plan = DeploymentDirectory.open(directory).plan
        return self._running.start(
            name,
            tag,
            plan=plan.digest,
            model=plan.model,
            host=own["host"],
            port=int(own["port"]),
            seconds=seconds_of(own["timeout"]),
        )


def _options(name: str, config: Mapping[str, Any] | None) -> tuple[dict[str, str], dict[str, str]]:
    """The deployment's own options, and those of the target."""
    given = {key: str(value) for key, value in (config or {}).items()}
    own = {key: given.pop(key, default) for key, default in _OWN.items()}
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"--name {name}: expected lower-case letters, digits and '-', at most 63, as BentoML's names."
        )
    if not own["port"].isdigit() or not 0 < int(own["port"]) < 65536:
        raise InvalidInput(f"-C port={own['port']}: expected a number from 1 to 65535.")
    seconds_of(own["timeout"])
    if given.setdefault("name", name) != name:
        raise InvalidInput(f"Found -C name={given['name']} and --name {name}, expected one name.")
    return own, given


def _built(name: str, model_uri: str, revision: str, given: Mapping[str, str], folder: Path) -> tuple[str, Path]:
    """Build the bento of a plan unless it is in the store; its tag and the deployment directory."""
    from lepton_plugins.canonical import digest_tree
    from lepton_plugins.generate import generate

    directory = deployment_of(model_uri, folder, revision or None)
    project = folder / "project"
    generate(directory, "bentoml", project, given)
    # Of the same project there is one bento: other plans, options or packages make another.
    tag = f"{name}:{digest_tree(project).removeprefix('sha256:')[:16]}"
    if subprocess.run([*_BENTOML, "get", tag], capture_output=True, check=False).returncode != 0:
        build = [*_BENTOML, "build", "service:Router", "--version", tag.partition(":")[2]]
        done = subprocess.run(build, cwd=project, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise DeploymentFailed(name, f"`bentoml build` said: {' / '.join(said[-3:])[:600]}")
    return tag, directory


def _serve(tag: str, host: str, port: str) -> list[str]:
    return [*_BENTOML, "serve", tag, "--host", host, "--port", port]


def _described(found: RunningBento) -> dict[str, Any]:
    return {
        "name": found.name,
        "flavor": FLAVOR,
        "bento": found.tag,
        "url": found.url,
        "runs": found.runs,
        "pid": found.pid,
        "plan": found.plan,
    }
