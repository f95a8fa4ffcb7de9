"""Code that versions bring along: a process has one module of a name, MLflow one place for the model that code sets."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Lock

from lepton_plugins.errors import LeptonError
from lepton_plugins.routing.mlmodel import MlModel

_all = Lock()
#: The lock of who loads code. A version that loads others in turn, as a router does, has one of its own for those.
_turn: ContextVar[Lock] = ContextVar("lepton_mlflow_code")
#: The modules that versions have brought into this process, by name: a digest of their source.
_brought: dict[str, str] = {}


class CodeClashes(LeptonError):
    """A version's module of a name that another version, or an installed package, has with other content."""

    code = "code_clashes"

    def __init__(self, path: Path, module: str) -> None:
        super().__init__(
            f"The model files at {path.name!r} bring a module {module!r} of other content than the one that this "
            f"process has: they would run the other's code. Start the process anew where the other isn't needed any "
            f"more; else serve the versions apart (`topology: distributed`), or give each a module name of its own."
        )


@contextmanager
def loading(mlmodel: MlModel) -> Iterator[None]:
    """While a version is loaded whose code comes with it: one at a time. CodeClashes, before anything runs.

    `mlflow.models.set_model` in a version's code leaves the model in a variable of MLflow's, where a version that is
    loaded at the same time would find it. Modules of `code_paths` come from `sys.modules` where another version's are
    there: MLflow loads them once.
    """
    confs = mlmodel.flavors.values()
    folders = {mlmodel.file(conf["code"]) for conf in confs if conf.get("code")}
    if not folders and not any(conf.get("model_code_path") for conf in confs):
        yield
        return
    with _turn.get(_all):
        own = {name: digest for folder in folders for name, digest in _modules(folder).items()}
        for name, digest in own.items():
            if (_brought.get(name) or _elsewhere(name) or digest) != digest:
                raise CodeClashes(mlmodel.path, name)
        _brought.update(own)
        before = _turn.set(Lock())
        try:
            yield
        finally:
            _turn.reset(before)


def _modules(folder: Path) -> dict[str, str]:
    """The modules and packages at the top of a folder of code."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.isidentifier() and path.is_dir() and path.name != "__pycache__":
            found[path.name] = _digest(path)
        elif path.suffix == ".py" and path.stem.isidentifier():
            found[path.stem] = _digest(path)
    return found


def _elsewhere(name: str) -> str | None:
    """A digest of what the process has imported by this name; None of nothing, or of what has no files."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    path = Path(file)
    path = path.parent if path.stem == "__init__" else path
    return _digest(path) if path.exists() else ""


def _digest(path: Path) -> str:
    """Of a module's source, or of a package's with all that is below it, but for what was compiled."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
            digest.update(f"{file.relative_to(path)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
