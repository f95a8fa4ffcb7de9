"""scikit-learn: skops, pickle and joblib files. None of them is loaded to be registered."""

from __future__ import annotations

import logging
import mmap
import re
from pathlib import Path

from lepton_mlflow.layouts.contents import is_pickle, is_skops, require
from lepton_mlflow.layouts.layout import Layout, installed, pyfunc, requirement

logger = logging.getLogger("lepton_mlflow")

#: What joblib leaves in a pickle: its arrays follow in a form that `pickle.load` doesn't read.
_JOBLIB_MARK = b"joblib.numpy_pickle"
#: scikit-learn writes its version into each estimator's state.
_VERSION = re.compile(rb"_sklearn_version.{1,8}?(\d+\.\d+(?:\.\d+)?(?:\.\w+)?)", re.DOTALL)
#: Types of these packages are trusted in a skops file; others need the user's word when it is loaded.
_TRUSTED = ("sklearn.", "numpy.", "scipy.")

_JOBLIB_LOADER = '''"""Loads a model that joblib wrote."""

import joblib


class JoblibModel:
    def __init__(self, model):
        self.model = model

    def get_raw_model(self):
        return self.model

    def predict(self, data, params=None):
        return self.model.predict(data)


def _load_pyfunc(path):
    return JoblibModel(joblib.load(path))
'''


def lay_out(path: Path) -> Layout:
    if path.suffix == ".skops":
        require(is_skops(path), path, "sklearn", "what skops wrote")
        return _skops(path)
    require(is_pickle(path), path, "sklearn", "what pickle, cloudpickle, joblib or skops wrote")
    wrote = _written_by(path)
    return _pickle(path, wrote) if is_plain_pickle(path) else _joblib(path, wrote)


def _skops(path: Path) -> Layout:
    return Layout(
        framework="sklearn",
        flavors={
            "sklearn": {
                "pickled_model": "model.skops",
                "sklearn_version": installed("scikit-learn"),
                "serialization_format": "skops",
                "skops_trusted_types": _trusted_types(path),
                "code": None,
            },
            "python_function": pyfunc("mlflow.sklearn", model_path="model.skops", predict_fn="predict"),
        },
        files={"model.skops": path},
        requirements=[requirement("scikit-learn"), requirement("skops")],
    )


def _pickle(path: Path, wrote: str | None) -> Layout:
    return Layout(
        framework="sklearn",
        flavors={
            "sklearn": {
                "pickled_model": "model.pkl",
                "sklearn_version": wrote or installed("scikit-learn"),
                # Reads what pickle writes as well.
                "serialization_format": "cloudpickle",
                "code": None,
            },
            "python_function": pyfunc("mlflow.sklearn", model_path="model.pkl", predict_fn="predict"),
        },
        files={"model.pkl": path},
        requirements=[requirement("scikit-learn", wrote), requirement("cloudpickle")],
    )


def _joblib(path: Path, wrote: str | None) -> Layout:
    """MLflow's own scikit-learn flavour has no joblib; a pyfunc with a loader of ten lines has."""
    return Layout(
        framework="sklearn",
        flavors={"python_function": pyfunc("lepton_joblib_model", data="model.joblib", code="code")},
        files={"model.joblib": path},
        texts={"code/lepton_joblib_model.py": _JOBLIB_LOADER},
        requirements=[requirement("scikit-learn", wrote), requirement("joblib")],
    )


def is_plain_pickle(path: Path) -> bool:
    """Whether `pickle.load` reads the file; else joblib wrote it, compressed or with arrays of its own."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content[:1] == b"\x80" and content.find(_JOBLIB_MARK) < 0


def names_sklearn(path: Path) -> bool:
    """Whether a pickle names scikit-learn's modules."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"sklearn.") >= 0 or content[:1] != b"\x80"


def _written_by(path: Path) -> str | None:
    if path.stat().st_size == 0:
        return None
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = _VERSION.search(content)
        return found[1].decode() if found else None


def _trusted_types(path: Path) -> list[str] | None:
    if installed("skops") is None:
        return None
    import skops.io

    try:
        found = skops.io.get_untrusted_types(file=path)
    except Exception:  # Of what skops' many readers raise; loading will ask for trust, or tell.
        logger.debug("the types in %s can't be listed", path, exc_info=True)
        return None
    return sorted(name for name in found if name.startswith(_TRUSTED)) or None
