"""Deploys the target `bentoml`: a router as a bento, served on this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lepton_bentoml.running import RunningBento, RunningBentos, check_free, told_to_end
from lepton_plugins.deployer import predict_over_v1, seconds_of
from lepton_plugins.errors import DeploymentExists, DeploymentFailed, InvalidInput
from lepton_plugins.routing.directory import DeploymentDirectory

_OWN = {"host": "127.0.0.1", "port": "3000", "timeout": "120"}
_BENTOML = [sys.executable, "-m", "bentoml"]
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_HELP = """lepton-bentoml: a plan's versions behind one router, as a bento that runs on this machine.

  mlflow deployments create -t lepton-bentoml -m models:/flights/plan --name flights -C port=3000

builds the bento flights:PLAN in BentoML's store and serves it in a process of its own, which stays after the command;
`delete` ends it and leaves the bento. `bentoml containerize flights:PLAN` and `bentoml deploy` take it elsewhere.

-C host=127.0.0.1   where it listens; other addresses need LEPTON_TOKEN for admin routes
-C port=3000
-C timeout=120      seconds to wait for readiness
-C KEY=VALUE        every option of `lepton generate --target bentoml --help`: cpu, memory, workers, max_concurrency …

run-local does the same in the foreground, until interrupted. State and logs: $BENTOML_HOME/lepton-deployments.
"""


class BentomlDeployer:
    """Deployments are server processes of this user on this machine, whatever the place."""

    help = _HELP

    def __init__(self, place: str = "") -> None:
        self._running = RunningBentos()

    def create(self, name: str, deployment: Callable[[], Path], options: Mapping[str, str]) -> dict[str, Any]:
        """Build a bento, serve it, wait until it is ready."""
        own, given = _options(name, options)
        if self._running.find(name) is not None:
            raise DeploymentExists(name, str(self._running.folder))
        check_free(own["host"], int(own["port"]))  # Before a bento is built for nothing.
        directory = deployment()
        return _described(self._start(name, _built(name, directory, given), directory, own))

    def update(self, name: str, deployment: Callable[[], Path], options: Mapping[str, str]) -> dict[str, Any]:
        """Build another bento while the old one serves, then serve it in its place; where it fails, the old one."""
        old = self._running.get(name)
        own, given = _options(name, {"host": old.host, "port": str(old.port), **options})
        directory = deployment()
        tag = _built(name, directory, given)
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

    def get(self, name: str) -> dict[str, Any]:
        """Name, bento, url, process, whether it runs, the plan's digest."""
        return _described(self._running.get(name))

    def list(self) -> Sequence[dict[str, Any]]:
        """The deployments of this user on this machine, whether they run or not."""
        return [_described(item) for item in self._running.list()]

    def delete(self, name: str, options: Mapping[str, str]) -> None:
        """End the process; the bento stays in BentoML's store."""
        self._running.delete(name)

    def predict(self, name: str, instances: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        found = self._running.get(name)
        if not found.runs:
            raise DeploymentFailed(name, f"its process has ended; its log is {self._running.log(name)}")
        return predict_over_v1(name, found.url, instances, model=found.model)

    def run_local(self, name: str, deployment: Callable[[], Path], options: Mapping[str, str]) -> None:
        """Build the bento and serve it in the foreground until interrupted."""
        with told_to_end():
            own, given = _options(name, options)
            tag = _built(name, deployment(), given)
            process = subprocess.Popen([*_BENTOML, "serve", tag, "--host", own["host"], "--port", own["port"]])
            try:
                process.wait()
            except KeyboardInterrupt:
                process.terminate()
                process.wait()

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


def _options(name: str, options: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The deployment's own options, and those of the target."""
    given = dict(options)
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


def _built(name: str, directory: Path, given: Mapping[str, str]) -> str:
    """Build the bento of a plan unless it is in the store; its tag."""
    from lepton_plugins.canonical import digest_tree
    from lepton_plugins.generate import render

    with TemporaryDirectory(prefix="lepton-") as folder:
        project = Path(folder) / "project"
        render(directory, "bentoml", project, given)
        # Of the same project there is one bento: other plans, options or packages make another.
        tag = f"{name}:{digest_tree(project).removeprefix('sha256:')[:16]}"
        if subprocess.run([*_BENTOML, "get", tag], capture_output=True, check=False).returncode != 0:
            build = [*_BENTOML, "build", "service:Router", "--version", tag.partition(":")[2]]
            done = subprocess.run(build, cwd=project, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                said = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines() if line.strip()]
                raise DeploymentFailed(name, f"`bentoml build` said: {' / '.join(said[-3:])[:600]}")
    return tag


def _described(found: RunningBento) -> dict[str, Any]:
    return {
        "name": found.name,
        "bento": found.tag,
        "url": found.url,
        "runs": found.runs,
        "pid": found.pid,
        "plan": found.plan,
    }
