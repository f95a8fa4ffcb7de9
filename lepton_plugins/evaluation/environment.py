"""Where measurements were made."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from lepton_plugins import __version__
from lepton_plugins.records.report import Environment
from lepton_plugins.routing.cores import whole_cores

#: Packages whose version changes what is measured.
_TOLD = ("numpy", "scipy", "scikit-learn", "onnxruntime", "mlflow", "torch", "tensorflow", "xgboost", "lightgbm")


def environment() -> Environment:
    """This process's: Python, platform, the cores it may use, versions of the packages that matter."""
    packages = {"lepton-plugins": __version__}
    for name in _TOLD:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return Environment(
        python=".".join(map(str, sys.version_info[:3])),
        platform=platform.platform(),
        cpus=whole_cores(),
        packages=packages,
    )
