"""Importing MLflow before Lepton: its backport of importlib.metadata must not hide the plugins."""

from __future__ import annotations

import subprocess
import sys


def test_plugins_are_found_where_mlflow_was_imported_first() -> None:
    script = "import mlflow; from lepton_plugins.plugins import plugins; print(*plugins().offers('registry'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["mlflow"], done.stderr
