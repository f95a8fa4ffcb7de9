"""How a version's files are stored, and whether loading them runs code from them.

An allow-list: only formats that are known to hold plain data count as such. Whatever isn't listed, and
every MLmodel that points at code of its own, carries code.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lepton_plugins.routing.mlmodel import MLMODEL, MlModel

#: Flavour → import name, where they differ.
_IMPORTS = {"pytorch": "torch", "spark": "pyspark", "llama_index": "llama_index.core"}

#: Import name → what pip calls it, where they differ.
_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "torch": "torch",
    "llama_index": "llama-index",
    "sentence_transformers": "sentence-transformers",
    "paddle": "paddlepaddle",
}

#: Flavours whose version key isn't `<flavour>_version`.
_VERSION_KEYS = {"xgboost": "xgb_version", "lightgbm": "lgb_version"}

#: Flavours that pickle, by the name of what they write.
_PICKLERS = {
    "statsmodels": "pickle",
    "pmdarima": "pickle",
    "paddle": "pickle",
    "pytorch": "torch",
    "dspy": "cloudpickle",
}

#: Bare files: suffix → (format, import names).
BARE = {
    ".skops": ("skops", ("skops", "sklearn")),
    ".joblib": ("joblib", ("joblib", "sklearn")),
    ".pkl": ("pickle", ("sklearn",)),
    ".pickle": ("pickle", ("sklearn",)),
}


#: Flavours whose models follow scikit-learn's interface.
ESTIMATOR_FLAVORS = frozenset({"sklearn", "xgboost", "lightgbm", "catboost"})


@dataclass(frozen=True, slots=True)
class StoredFormat:
    """`flavor` is the native flavour that loads the files, None where only pyfunc can."""

    name: str
    carries_code: bool
    flavor: str | None
    packages: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in self.packages if not _importable(name))


#: Keys of a flavour's configuration that name files.
_FILE_KEYS = ("data", "model_path", "model_data", "pickled_model")


def stored_format(mlmodel: MlModel) -> StoredFormat:
    """The format of an MLflow model directory, from its MLmodel alone.

    ModelFilesInvalid where it names files outside the directory: no digest covers those.
    """
    for conf in mlmodel.flavors.values():
        for key in _FILE_KEYS:
            if isinstance(conf.get(key), str):
                mlmodel.file(conf[key])
    pyfunc = mlmodel.flavors.get("python_function", {})
    loader = str(pyfunc.get("loader_module", ""))
    flavor = _native_flavor(mlmodel, loader)
    if flavor is None:
        package = loader.partition(".")[0]
        # A loader of the model's own may be among its code paths, which are on the path only when it is loaded.
        others = () if not package or package == "mlflow" or pyfunc.get("code") else (package,)
        name = "cloudpickle" if loader == "mlflow.pyfunc.model" and not pyfunc.get("code") else "code"
        return StoredFormat(name, True, None, ("mlflow", *others))
    conf = mlmodel.flavors[flavor]
    name, plain, more = _flavor_format(flavor, conf)
    packages = ("mlflow", _IMPORTS.get(flavor, flavor), *more)
    if pyfunc.get("code") or conf.get("code") or conf.get("code_paths"):
        return StoredFormat("code", True, flavor, packages)
    if plain and (loader not in ("", f"mlflow.{flavor}") or _has_inner_model(mlmodel.path)):
        plain = False
    return StoredFormat(name, not plain, flavor, packages)


def install_line(mlmodel: MlModel, stored: StoredFormat) -> str:
    """What to run for the packages that are missing, in the versions that the model was saved with."""
    wanted = []
    for name in stored.missing:
        if name == "mlflow":
            wanted.append("'lepton-plugins[mlflow]'")
            continue
        distribution = _DISTRIBUTIONS.get(name, name.partition(".")[0])
        version = None
        if stored.flavor and name == _IMPORTS.get(stored.flavor, stored.flavor):
            key = _VERSION_KEYS.get(stored.flavor, f"{stored.flavor}_version")
            version = mlmodel.flavors[stored.flavor].get(key)
        wanted.append(f"'{distribution}=={version}'" if version else distribution)
    return f"pip install {' '.join(wanted)}" if wanted else ""


def _native_flavor(mlmodel: MlModel, loader: str) -> str | None:
    """The flavour whose module loads the directory; without a pyfunc flavour the first one named."""
    natives = mlmodel.native_flavors
    if not loader:
        return natives[0] if natives else None
    flavor = loader.removeprefix("mlflow.")
    return flavor if flavor in natives else None


def _flavor_format(flavor: str, conf: Any) -> tuple[str, bool, tuple[str, ...]]:
    """(name, whether it is plain data, further packages)."""
    if flavor == "sklearn":
        return _estimator_format(conf, "pickle")
    if flavor == "xgboost":
        # The class is looked up by name: only XGBoost's own may be.
        own = str(conf.get("model_class", "xgboost.core.Booster")).startswith("xgboost.")
        return "xgboost", own, ()
    if flavor == "lightgbm":
        if conf.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
            return "lightgbm", True, ()
        return _estimator_format(conf, "cloudpickle")
    if flavor == "catboost":
        return "catboost", conf.get("save_format", "cbm") in ("cbm", "json", "onnx", "coreml"), ()
    if flavor == "onnx":
        return "onnx", True, ("onnxruntime",)
    return _PICKLERS.get(flavor, flavor), False, ()


def _estimator_format(conf: Any, default: str) -> tuple[str, bool, tuple[str, ...]]:
    name = str(conf.get("serialization_format") or default)
    # The list of trusted types stands in the model itself: whoever wrote the model chose it.
    plain = name == "skops" and not conf.get("skops_trusted_types")
    return name, plain, ("skops",) if name == "skops" else ("cloudpickle",) if name == "cloudpickle" else ()


def _has_inner_model(path: Path) -> bool:
    """Another MLmodel below the first: a loader may follow that one instead."""
    return any(file.parent != path for file in path.rglob(MLMODEL))


def _importable(name: str) -> bool:
    try:
        return find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
