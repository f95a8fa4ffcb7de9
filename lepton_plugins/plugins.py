"""Finding, loading and asking plugins. One broken plugin never takes the others with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any

import pluggy
from pydantic import ValidationError

from lepton_plugins import hookspecs
from lepton_plugins.errors import InvalidInput, PluginClash, PluginInvalid, UnknownPlugin
from lepton_plugins.records.event import Event
from lepton_plugins.records.plugin import (
    BackendOffer,
    EvaluatorOffer,
    Offer,
    PolicyOffer,
    RegistryOffer,
    SolverOffer,
    StoreOffer,
    TargetOffer,
)

logger = logging.getLogger("lepton_plugins")

GROUP = "lepton_plugins"

#: Each family of offers: the hook that gathers it and the record it must return.
FAMILIES: dict[str, tuple[str, type[Offer]]] = {
    "registry": ("lepton_registries", RegistryOffer),
    "evaluator": ("lepton_evaluators", EvaluatorOffer),
    "policy": ("lepton_policies", PolicyOffer),
    "solver": ("lepton_solvers", SolverOffer),
    "backend": ("lepton_backends", BackendOffer),
    "target": ("lepton_targets", TargetOffer),
    "store": ("lepton_stores", StoreOffer),
}


@dataclass
class PluginStatus:
    """One plugin as `lepton plugins` shows it."""

    name: str
    distribution: str
    version: str
    offers: dict[str, list[Offer]] = field(default_factory=dict)
    error: str | None = None

    @property
    def provider(self) -> str:
        return f"{self.distribution} {self.version}".strip()


class Plugins:
    """The loaded plugins and what they offer.

    `load_entry_points` takes every entry point of the group; `register` adds one by hand (tests, or a
    notebook that tries a policy). Neither raises for a plugin's fault: `statuses` tells.
    """

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self.statuses: dict[str, PluginStatus] = {}
        self._gathered: dict[str, dict[str, tuple[Offer, PluginStatus]]] = {}

    def load_entry_points(self, found: Iterable[tuple[EntryPoint, Distribution]] | None = None) -> None:
        for entry, distribution in _entry_points() if found is None else found:
            status = PluginStatus(entry.name, distribution.name, distribution.version)
            if (other := self.statuses.get(entry.name)) is not None:
                if other.distribution != status.distribution:
                    raise PluginClash("plugin", entry.name, [other.provider, status.provider])
                continue  # The same distribution seen twice on sys.path (an editable install beside a wheel).
            self._add(status, entry)

    def register(self, plugin: object, name: str, distribution: str = "(this process)") -> PluginStatus:
        status = PluginStatus(name, distribution, "")
        self._add(status, plugin)
        return status

    def _add(self, status: PluginStatus, source: EntryPoint | object) -> None:
        self.statuses[status.name] = status
        self._gathered.clear()
        try:
            plugin = source.load() if isinstance(source, EntryPoint) else source
            self._manager.register(plugin, name=status.name)
            self._manager.check_pending()
            self._gather_from(status)
        except Exception as error:  # Whatever a stranger's module raises is theirs: show it, go on.
            status.error = f"{type(error).__name__}: {error}"
            if self._manager.has_plugin(status.name):
                self._manager.unregister(name=status.name)

    def _gather_from(self, status: PluginStatus) -> None:
        for family, (hook_name, record) in FAMILIES.items():
            for implementation in getattr(self._manager.hook, hook_name).get_hookimpls():
                if implementation.plugin_name != status.name:
                    continue
                offers = implementation.function()
                if not isinstance(offers, Sequence) or isinstance(offers, str):
                    raise PluginInvalid(status.name, hook_name, offers, f"a list of {record.__name__}")
                for offer in offers:
                    if not isinstance(offer, record):
                        raise PluginInvalid(status.name, hook_name, offer, f"a {record.__name__}")
                status.offers.setdefault(family, []).extend(offers)

    def offers(self, family: str) -> dict[str, Offer]:
        """All offers of a family by name, sorted; two plugins with one name raise PluginClash."""
        return {name: offer for name, (offer, _) in self._family(family).items()}

    def _family(self, family: str) -> dict[str, tuple[Offer, PluginStatus]]:
        if family not in self._gathered:
            gathered: dict[str, tuple[Offer, PluginStatus]] = {}
            for status in self.statuses.values():
                if status.error:
                    continue
                for offer in status.offers.get(family, ()):
                    if offer.name in gathered:
                        raise PluginClash(family, offer.name, [gathered[offer.name][1].provider, status.provider])
                    gathered[offer.name] = (offer, status)
            self._gathered[family] = dict(sorted(gathered.items()))
        return self._gathered[family]

    def offer(self, family: str, name: str) -> Offer:
        """The offer of this name, or UnknownPlugin with the nearest one."""
        try:
            return self._family(family)[name][0]
        except KeyError:
            raise UnknownPlugin(family, name, self._family(family)) from None

    def load(self, family: str, name: str) -> Any:
        """The object behind an offer; a missing package or a broken import is one clear error."""
        return self.offer(family, name).load()

    def provider(self, family: str, name: str) -> PluginStatus:
        """Which plugin offers it: its distribution and version."""
        self.offer(family, name)
        return self._family(family)[name][1]

    def by_scheme(self, family: str, uri: str) -> Offer:
        """The registry or store whose schemes hold the URI's; a bare path has the scheme `file`."""
        scheme = uri.partition(":")[0].lower() if "://" in uri or uri.startswith("databricks") else "file"
        known: set[str] = set()
        for offer in self.offers(family).values():
            schemes = getattr(offer, "schemes", ())
            known.update(schemes)
            if scheme in schemes or scheme.partition("+")[0] in schemes:
                return offer
        raise InvalidInput(
            f"No {family} plugin handles {uri!r} (scheme {scheme!r}). Schemes: {', '.join(sorted(known)) or 'none'}."
        )

    def tell(self, event: Event) -> None:
        """Pass an event to every plugin; one that raises is logged and stops nothing."""
        for implementation in self._manager.hook.lepton_event.get_hookimpls():
            try:
                implementation.function(event)
            except Exception:
                logger.exception("plugin %r failed on event %r", implementation.plugin_name, event.kind)


def _entry_points() -> list[tuple[EntryPoint, Distribution]]:
    found = [(entry, entry.dist) for entry in entry_points(group=GROUP) if entry.dist is not None]
    return sorted(found, key=lambda pair: (pair[0].name, pair[1].name))


@lru_cache(maxsize=1)
def plugins() -> Plugins:
    """This process's plugins, loaded on first use."""
    loaded = Plugins()
    loaded.load_entry_points()
    return loaded


def validation_lines(error: ValidationError) -> str:
    """pydantic's findings as `place: what` joined by '; ', for a plugin's own parameters."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']}" for item in error.errors()
    )
