"""The frameworks that Lepton can register, and how their files are told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lepton_mlflow.layouts import boosting, mlflow_model, onnx, sklearn, tensorflow, torch
from lepton_mlflow.layouts.layout import Layout
from lepton_plugins.errors import FrameworkMismatch, FrameworkUnclear, PathMissing, UnknownFramework


@dataclass(frozen=True)
class Framework:
    """`suffixes` are the files it stores; a directory that holds exactly one of them stands for it."""

    lay_out: Callable[[Path], Layout]
    suffixes: tuple[str, ...]
    stores: str
    takes_folder: bool = False


FRAMEWORKS: Mapping[str, Framework] = {
    "onnx": Framework(onnx.lay_out, (".onnx",), "a .onnx file, or a directory with one", takes_folder=True),
    "sklearn": Framework(
        sklearn.lay_out, (".skops", ".pkl", ".pickle", ".joblib", ".sav"), "a .skops, .pkl or .joblib file"
    ),
    "torch": Framework(torch.lay_out, (".pt", ".pth", ".pt2", ".torchscript", ".ts"), "a .pt, .pth or .pt2 file"),
    "tensorflow": Framework(
        tensorflow.lay_out,
        (".keras", ".h5", ".hdf5"),
        "a SavedModel directory, or a .keras or .h5 file",
        takes_folder=True,
    ),
    "xgboost": Framework(boosting.xgboost, (".ubj", ".xgb", ".json"), "a .ubj or .json file"),
    "lightgbm": Framework(boosting.lightgbm, (".lgb", ".txt"), "a .txt file of `Booster.save_model`"),
    "catboost": Framework(boosting.catboost, (".cbm",), "a .cbm file"),
}

#: Other names that people use.
_ALIASES = {
    "pytorch": "torch",
    "torchscript": "torch",
    "scikit-learn": "sklearn",
    "scikit_learn": "sklearn",
    "tf": "tensorflow",
    "keras": "tensorflow",
    "onnxruntime": "onnx",
    "xgb": "xgboost",
    "lgbm": "lightgbm",
    "mlflow": "pyfunc",
    "python_function": "pyfunc",
}

#: Suffixes that mean one framework by themselves; the others (.pkl, .json, .txt) need a look or the user's word.
_CERTAIN = {
    suffix: name
    for name, framework in FRAMEWORKS.items()
    for suffix in framework.suffixes
    if suffix not in (".json", ".txt", ".pkl", ".pickle", ".sav", ".h5", ".hdf5", ".ts")
}


def lay_out(path: Path, framework: str | None) -> Layout:
    """How the model at `path` is laid out. The framework is inferred from the files where it isn't named.

    Raises PathMissing, UnknownFramework, FrameworkUnclear or FrameworkMismatch; reads, and writes nothing.
    """
    if not path.exists():
        raise PathMissing(path, "The model to register")
    wanted = _ALIASES.get(framework.lower(), framework.lower()) if framework else None
    if mlflow_model.is_model(path):
        return mlflow_model.lay_out(path, wanted)
    if wanted is None:
        wanted = infer(path)
    elif wanted == "pyfunc":
        raise FrameworkMismatch(path, "pyfunc", "no MLmodel file", "an MLflow model directory")
    elif wanted not in FRAMEWORKS:
        raise UnknownFramework(str(framework), [*FRAMEWORKS, "pyfunc"])
    chosen = FRAMEWORKS[wanted]
    if path.is_dir() and not chosen.takes_folder:
        path = _only_file(path, wanted, chosen)
    return chosen.lay_out(path)


def infer(path: Path) -> str:
    """The framework that stores such files; FrameworkUnclear if several might, or none."""
    if path.is_file():
        found = _infer_file(path)
        if found is None:
            raise FrameworkUnclear(path, f"a file {path.name!r}", [*FRAMEWORKS, "pyfunc"])
        return found
    if (path / tensorflow.SAVED_MODEL).is_file():
        return "tensorflow"
    files = sorted(entry for entry in path.iterdir() if entry.is_file())
    names = {name for file in files if (name := _infer_file(file)) is not None}
    if len(names) != 1:
        shown = ", ".join(file.name for file in files[:6]) or "no file at its top level"
        raise FrameworkUnclear(path, f"a directory with {shown}", [*FRAMEWORKS, "pyfunc"])
    return names.pop()


def _infer_file(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in _CERTAIN:
        return _CERTAIN[suffix]
    if suffix in (".pkl", ".pickle", ".sav"):
        return "sklearn" if sklearn.names_sklearn(path) else None
    if suffix in (".h5", ".hdf5"):
        return "tensorflow"
    if suffix in (".json", ".txt"):
        with path.open("rb") as stream:
            head = stream.read(4096)
        if suffix == ".json" and b'"learner"' in head:
            return "xgboost"
        if suffix == ".txt" and head.startswith(b"tree\n"):
            return "lightgbm"
    return None


def _only_file(folder: Path, name: str, framework: Framework) -> Path:
    found = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in framework.suffixes)
    if len(found) != 1:
        shown = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "an empty directory"
        raise FrameworkMismatch(folder, name, shown, framework.stores)
    return found[0]
