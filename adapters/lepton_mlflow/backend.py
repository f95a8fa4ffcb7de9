"""The backend for all that isn't ONNX: any MLflow flavour, and scikit-learn estimators as bare files."""

from __future__ import annotations

from pathlib import Path

from lepton_mlflow.backend_formats import BARE, ESTIMATOR_FLAVORS, StoredFormat, install_line, stored_format
from lepton_plugins.errors import ModelFilesInvalid
from lepton_plugins.routing.backend import Inspection, LoadedModel
from lepton_plugins.routing.mlmodel import read_mlmodel


class PyfuncBackend:
    """Estimators are loaded as they are, so that they can be asked for probabilities; the rest as pyfunc."""

    name = "pyfunc"

    def inspect(self, path: Path) -> Inspection | None:
        mlmodel = read_mlmodel(path)
        if mlmodel is not None:
            stored = stored_format(mlmodel)
            return Inspection(
                format=stored.name,
                carries_code=stored.carries_code,
                signature=mlmodel.signature if stored.flavor in ESTIMATOR_FLAVORS else mlmodel.callable_signature,
                missing=stored.missing,
                install=install_line(mlmodel, stored),
            )
        file = bare_file(path)
        if file is None:
            return None
        name, packages = BARE[file.suffix]
        bare = StoredFormat(name, name != "skops", None, packages)
        lines = {"sklearn": "scikit-learn", "skops": "skops", "joblib": "joblib"}
        install = "pip install " + " ".join(lines[package] for package in bare.missing) if bare.missing else ""
        return Inspection(format=name, carries_code=bare.carries_code, missing=bare.missing, install=install)

    def load(self, path: Path, *, threads: int | None = None) -> LoadedModel:
        """`threads` is for the framework to know: estimators and pyfuncs keep their own setting."""
        from lepton_mlflow.backend_models import load_bare, load_directory

        path = path.resolve()  # MLflow refuses a directory that is a link to one elsewhere, as a bento's are.
        mlmodel = read_mlmodel(path)
        if mlmodel is not None:
            return load_directory(mlmodel, stored_format(mlmodel))
        file = bare_file(path)
        if file is None:
            raise ModelFilesInvalid(path, "it holds neither an MLmodel nor an estimator's file")
        return load_bare(file)


def bare_file(path: Path) -> Path | None:
    """A file that holds one estimator, or the only such file in a directory."""
    if path.is_file():
        return path if path.suffix in BARE else None
    if not path.is_dir():
        return None
    files = [file for file in sorted(path.iterdir()) if file.suffix in BARE and file.is_file()]
    return files[0] if len(files) == 1 else None
