"""Plugins that are missing, clash or are broken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lepton_plugins.errors.base import LeptonError, nearest


class UnknownPlugin(LeptonError):
    """No loaded plugin offers this name."""

    code = "unknown_plugin"

    def __init__(self, family: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        hint = nearest(name, known) if known else f" None that is installed here offers any {family}."
        super().__init__(f"No plugin offers the {family} {name!r}.{hint} `lepton plugins` lists them.")


class PluginClash(LeptonError):
    """Two distributions offer the same name in the same family."""

    code = "plugin_clash"

    def __init__(self, family: str, name: str, providers: Sequence[str]) -> None:
        super().__init__(
            f"The {family} {name!r} is offered by {' and by '.join(providers)}. "
            f"Names are unique: uninstall one of the two, or ask its author to rename it."
        )


class PluginInvalid(LeptonError):
    """A plugin's hook returned something that isn't the record that the hook asks for."""

    code = "plugin_invalid"

    def __init__(self, plugin: str, hook: str, found: object, expected: str) -> None:
        super().__init__(f"Plugin {plugin!r}, hook {hook}: returned {found!r}, expected {expected}.")


class TargetBroken(LeptonError):
    """What a plugin offers can't be imported, though its packages are there."""

    code = "target_broken"

    def __init__(self, name: str, target: str, reason: str) -> None:
        super().__init__(
            f"The plugin's {name!r} can't be imported from {target}: {reason}. "
            f"`lepton plugins` tells which distribution it comes from; tell its author."
        )
