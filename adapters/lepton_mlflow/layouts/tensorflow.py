"""TensorFlow: SavedModel directories, and Keras files (`.keras`, `.h5`)."""

from __future__ import annotations

from pathlib import Path

from lepton_mlflow.layouts.contents import is_keras, is_saved_model, require
from lepton_mlflow.layouts.layout import Layout, installed, pyfunc, requirement
from lepton_plugins.errors import FrameworkMismatch

SAVED_MODEL = "saved_model.pb"


def lay_out(path: Path) -> Layout:
    return _saved_model(path) if path.is_dir() else _keras(path)


def _saved_model(path: Path) -> Layout:
    graph = path / SAVED_MODEL
    if not graph.is_file():
        names = ", ".join(sorted(entry.name for entry in path.iterdir())[:6]) or "an empty directory"
        raise FrameworkMismatch(path, "tensorflow", names, f"a SavedModel directory with {SAVED_MODEL}")
    require(is_saved_model(graph), graph, "tensorflow", "a SavedModel's graph")
    # With a serving signature MLflow calls it by the inputs' names; a bare module is called as it is.
    if b"serving_default" in graph.read_bytes():
        options = {
            "saved_model_dir": "tfmodel",
            "model_type": "tf1-estimator",
            "meta_graph_tags": ["serve"],
            "signature_def_key": "serving_default",
        }
    else:
        options = {"saved_model_dir": "tfmodel", "model_type": "tf2-module"}
    return Layout(
        framework="tensorflow",
        flavors={"tensorflow": {**options, "code": None}, "python_function": pyfunc("mlflow.tensorflow")},
        files={"tfmodel": path},
        requirements=[requirement("tensorflow")],
    )


def _keras(path: Path) -> Layout:
    require(is_keras(path), path, "tensorflow", "a model that Keras saved (.keras or .h5)")
    save_format, name = ("h5", "data/model.h5") if path.suffix in (".h5", ".hdf5") else ("tf", "data/model.keras")
    return Layout(
        framework="tensorflow",
        flavors={
            "tensorflow": {
                "data": "data",
                "model_type": "keras",
                "keras_version": installed("tensorflow") or installed("keras"),
                "save_format": save_format,
                "code": None,
            },
            "python_function": pyfunc("mlflow.tensorflow", data="data"),
        },
        files={name: path},
        texts={"data/keras_module.txt": "tensorflow.keras", "data/save_format.txt": save_format},
        requirements=[requirement("tensorflow")],
    )
