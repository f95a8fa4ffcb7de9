"""A router whose deployment directory goes with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from weakref import finalize

from lepton_plugins.routing.router import Router


def temporary_router(pull: Callable[[Path], Path], threads: int | None = None) -> Router:
    """The router over what `pull` puts into a new folder; the folder is removed once nobody has the router."""
    folder = mkdtemp(prefix="lepton-")
    try:
        router = Router.load(pull(Path(folder) / "deployment"), threads=threads)
    except BaseException:
        _remove(folder, os.getpid())
        raise
    finalize(router, _remove, folder, os.getpid())
    return router


def _remove(folder: str, process: int) -> None:
    """Remove a folder of this process; what was forked from it has the same objects."""
    if os.getpid() == process:
        rmtree(folder, ignore_errors=True)
