"""Opening what a command works on: the registry, and NAME|DIR."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lepton_plugins.cli.terminal import terminal
from lepton_plugins.errors import PathMissing

if TYPE_CHECKING:
    from lepton_plugins.api import ModelRegistry


def open_registry() -> ModelRegistry:
    """The registry of --registry, else the one that MLflow is set up for."""
    from lepton_plugins.api import ModelRegistry

    return ModelRegistry(terminal.registry)


def deployment_directory(name: str) -> Path | None:
    """NAME|DIR: the deployment directory that it names, or None if it is a model's name."""
    path = Path(name)
    if (path / "plan.json").is_file():
        return path
    # A model's name holds no path separator: this was meant as a directory.
    if "/" in name.removesuffix("/") or name.startswith((".", "~")) or name.endswith("/"):
        if path.is_dir():
            raise PathMissing(path / "plan.json", f"{name} isn't a deployment directory")
        raise PathMissing(name, "The deployment directory")
    return None


@contextmanager
def deployment(name: str) -> Iterator[Path]:
    """NAME|DIR as a deployment directory; a model's plan in force is pulled into a temporary one."""
    directory = deployment_directory(name)
    if directory is not None:
        yield directory
        return
    with TemporaryDirectory(prefix="lepton-") as folder:
        yield open_registry().pull(name, Path(folder) / "deployment")
