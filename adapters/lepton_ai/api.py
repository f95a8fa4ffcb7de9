"""`from lepton_ai.api import ModelRegistry`: an alias of `lepton_plugins.api.ModelRegistry`."""

from __future__ import annotations

from lepton_plugins.api import ModelRegistry

__all__ = ["ModelRegistry"]
