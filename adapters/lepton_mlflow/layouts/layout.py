"""A layout: which files go where in an MLflow model directory, and what its MLmodel says about them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

#: What MLflow or Python write beside a model and what isn't part of it.
_LEFT_OUT = ("registered_model_meta", "__pycache__")


@dataclass(frozen=True)
class Layout:
    """`files` maps a path inside the model directory to the file or folder that goes there, `texts` to its content.

    `flavors` is the MLmodel's, `python_function` included; `requirements` are pip's, MLflow left out.
    `complete` is a directory that already is an MLflow model: it is copied as it is and nothing is added.
    """

    framework: str
    flavors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    requirements: Sequence[str] = ()
    signature: ModelSignature | None = None
    complete: Path | None = None

    def write(self, to: Path) -> None:
        """Make the model directory at `to` (empty). The same files give the same bytes, whenever it is called."""
        if self.complete is not None:
            place(self.complete, to)
            return
        for relative, source in self.files.items():
            place(source, to / relative)
        for relative, text in self.texts.items():
            (to / relative).parent.mkdir(parents=True, exist_ok=True)
            (to / relative).write_text(text, encoding="utf-8")
        self._write_environment(to)
        self._write_mlmodel(to)

    def _write_mlmodel(self, to: Path) -> None:
        from mlflow.models import Model

        size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
        model = Model(model_uuid=None, signature=self.signature, model_size_bytes=size)
        for name, options in self.flavors.items():
            model.add_flavor(name, **options)
        content = model.to_dict()
        # A time and a random id would give the same model another digest each time it is registered.
        for key in ("utc_time_created", "model_uuid", "run_id", "model_id"):
            content.pop(key, None)
        (to / "MLmodel").write_text(yaml.safe_dump(content), encoding="utf-8")

    def _write_environment(self, to: Path) -> None:
        """What `mlflow models serve` and `build-docker` make an environment from."""
        from mlflow.utils.environment import _mlflow_conda_env, _PythonEnv

        requirements = sorted(self.requirements)
        _mlflow_conda_env(str(to / "conda.yaml"), additional_pip_deps=requirements)
        _PythonEnv.current().to_yaml(str(to / "python_env.yaml"))
        (to / "requirements.txt").write_text(
            "".join(f"{line}\n" for line in [requirement("mlflow"), *requirements]), encoding="utf-8"
        )


ENVIRONMENT = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}


def pyfunc(loader_module: str, **options: Any) -> dict[str, Any]:
    """The `python_function` flavour."""
    from mlflow.utils import PYTHON_VERSION

    return {"loader_module": loader_module, "python_version": PYTHON_VERSION, "env": ENVIRONMENT, **options}


def installed(package: str) -> str | None:
    """The installed version of a distribution, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def requirement(package: str, exact: str | None = None) -> str:
    """`package==version`, by the given or the installed version, or the bare name."""
    known = exact or installed(package)
    return f"{package}=={known}" if known else package


def place(source: Path, target: Path) -> None:
    """A file or folder in another place: linked where the file system can, else copied."""
    if source.is_dir():
        for entry in sorted(source.iterdir()):
            if entry.name not in _LEFT_OUT:
                place(entry, target / entry.name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
