"""The quickstart's directory: what is in it, whether it may be used, and what is already there from an earlier run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lepton_plugins.atomic_file import write_atomically
from lepton_plugins.errors import DirectoryNotOurs, DirectoryUnwritable, QuickstartRunning

#: Everything that a quickstart writes; nothing else is ever removed.
_MADE = (
    "data",
    "models",
    "mlruns",
    "deployment",
    "alone",
    "mlflow.db",
    "mlflow.db-shm",
    "mlflow.db-wal",
    "plan.yaml",
    "flight.json",
    "server.log",
    "alone.log",
    "result.json",
    "comparison.png",
    "decisions",
    "alone-decisions",
    "quickstart.json",
    ".lock",
)
_MARK = "quickstart.json"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The files of one quickstart below `root`."""

    root: Path

    @property
    def registry_uri(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        return self.root / "mlruns"

    @property
    def deployment(self) -> Path:
        return self.root / "deployment"

    @property
    def alone(self) -> Path:
        """Every version for itself, which the plan is compared with."""
        return self.root / "alone"

    @property
    def decisions(self) -> Path:
        return self.root / "decisions"

    @property
    def alone_decisions(self) -> Path:
        return self.root / "alone-decisions"

    @property
    def plan_file(self) -> Path:
        return self.root / "plan.yaml"

    @property
    def row_file(self) -> Path:
        return self.root / "flight.json"

    @property
    def server_log(self) -> Path:
        return self.root / "server.log"

    @property
    def alone_log(self) -> Path:
        return self.root / "alone.log"

    @property
    def result_file(self) -> Path:
        return self.root / "result.json"

    @property
    def chart(self) -> Path:
        return self.root / "comparison.png"

    def model_file(self, label: str) -> Path:
        return self.root / "models" / f"{label}.onnx"

    def data_file(self, name: str) -> Path:
        return self.root / "data" / f"{name}.parquet"

    def clear(self) -> None:
        """Remove what a quickstart made, and nothing else."""
        for name in _MADE:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif name != ".lock":
                path.unlink(missing_ok=True)


@contextmanager
def open_workspace(directory: Path, made_with: dict[str, object], *, fresh: bool) -> Iterator[tuple[Workspace, str]]:
    """The directory as a workspace of this quickstart alone, and a sentence about what was found in it.

    `made_with` is what an earlier run's results depend on: where it differs, the run starts afresh, as with
    `fresh`. Raises DirectoryUnwritable, DirectoryNotOurs (it holds something else) or QuickstartRunning.
    """
    workspace = Workspace(directory.expanduser().resolve())
    _make(workspace.root)
    with _alone(workspace.root):
        found = _look(workspace.root, made_with)
        if fresh or found is _OUTDATED:
            workspace.clear()
        note = "Starting afresh, as asked." if fresh and found is not _NEW else found
        for folder in ("data", "models"):
            (workspace.root / folder).mkdir(exist_ok=True)
        write_atomically(workspace.root / _MARK, f"{json.dumps(made_with, indent=2, sort_keys=True)}\n".encode())
        yield workspace, note


_NEW = "A new directory."
_SAME = "An earlier run was found; what it made is used again (--fresh starts over)."
_OUTDATED = "An earlier run was found, made from other data or by another version of Lepton: starting afresh."


def _look(root: Path, made_with: dict[str, object]) -> str:
    mark = root / _MARK
    if not mark.exists():
        strangers = sorted(entry.name for entry in root.iterdir() if entry.name != ".lock")
        if strangers:
            raise DirectoryNotOurs(root, strangers)
        return _NEW
    try:
        before = json.loads(mark.read_text())
    except (OSError, ValueError):
        return _OUTDATED
    return _SAME if before == json.loads(json.dumps(made_with)) else _OUTDATED


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DirectoryUnwritable(root, error.strerror or str(error)) from error


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the directory's lock; the system lets go of it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise QuickstartRunning(root) from None
        yield
