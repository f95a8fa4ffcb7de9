"""Lepton: several versions of a model in parallel, and for each request the one that serves it best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

__version__ = "0.1.0"

hookspec = pluggy.HookspecMarker("lepton_plugins")
hookimpl = pluggy.HookimplMarker("lepton_plugins")

if TYPE_CHECKING:
    from lepton_plugins.api import ModelRegistry
    from lepton_plugins.routing.router import Router

__all__ = ["ModelRegistry", "Router", "__version__", "hookimpl", "hookspec"]

#: Resolved on first use, so that `import lepton_plugins` in a plugin costs nothing.
_LAZY = {"ModelRegistry": "lepton_plugins.api", "Router": "lepton_plugins.routing.router"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
