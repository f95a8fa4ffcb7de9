"""Finding, loading and asking plugins. One broken plugin never takes the others with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from time import perf_counter
from typing import Any

import pluggy
from pydantic import ValidationError

from lepton_plugins import hookspecs
from lepton_plugins.errors import InvalidInput, PluginClash, PluginInvalid, UnknownPlugin, nearest
from lepton_plugins.records.event import Event
from lepton_plugins.records.plugin import (
    AcceleratorOffer,
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
DISTRIBUTION = "lepton-plugins"
#: What Lepton is called inside an artefact that carries it.
EMBEDDED = "lepton-plugins-embedded"

#: Each family of offers: the hook that gathers it and the record it must return.
FAMILIES: dict[str, tuple[str, type[Offer]]] = {
    "registry": ("lepton_registries", RegistryOffer),
    "evaluator": ("lepton_evaluators", EvaluatorOffer),
    "policy": ("lepton_policies", PolicyOffer),
    "solver": ("lepton_solvers", SolverOffer),
    "backend": ("lepton_backends", BackendOffer),
    "target": ("lepton_targets", TargetOffer),
    "store": ("lepton_stores", StoreOffer),
    "accelerator": ("lepton_accelerators", AcceleratorOffer),
}


@dataclass
class PluginStatus:
    """One plugin as `lepton plugins` shows it: where it comes from, what it offers, or why it failed."""

    name: str
    distribution: str
    version: str
    offers: dict[str, list[Offer]] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0
    """How long importing and asking it took."""

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
            other = self.statuses.get(entry.name)
            if other is not None and other.distribution == status.distribution:
                continue  # The same distribution seen twice on sys.path (an editable install beside a wheel).
            if other is not None:
                # An entry point's name is a label; only what plugins *offer* must have unique names.
                status.name = f"{entry.name} ({distribution.name})"
            self._add(status, entry.load)

    def register(self, plugin: object, name: str, distribution: str = "(this process)") -> PluginStatus:
        status = PluginStatus(name, distribution, "")
        if name in self.statuses:
            raise PluginClash("plugin", name, [self.statuses[name].provider, status.provider])
        self._add(status, lambda: plugin)
        return status

    def _add(self, status: PluginStatus, load: Callable[[], object]) -> None:
        self.statuses[status.name] = status
        self._gathered.clear()
        started = perf_counter()
        try:
            plugin = load()
            self._manager.register(plugin, name=status.name)
            self._manager.check_pending()
            status.offers = self._gather_from(status)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # A stranger's module may even exit, or panic in its extension module.
            status.error = _reason(error)
            if self._manager.has_plugin(status.name):
                self._manager.unregister(name=status.name)
        status.seconds = perf_counter() - started

    def _gather_from(self, status: PluginStatus) -> dict[str, list[Offer]]:
        """The one funnel: ask each offering hook of one plugin, check every record."""
        gathered: dict[str, list[Offer]] = {}
        for family, (hook_name, record) in FAMILIES.items():
            for implementation in getattr(self._manager.hook, hook_name).get_hookimpls():
                if implementation.plugin_name != status.name:
                    continue
                offers = implementation.function()
                if not isinstance(offers, Sequence) or isinstance(offers, str):
                    raise PluginInvalid(status.name, hook_name, offers, f"a list of {record.__name__}")
                names = set()
                for offer in offers:
                    if not isinstance(offer, record):
                        raise PluginInvalid(status.name, hook_name, offer, f"a {record.__name__}")
                    if offer.name in names:
                        raise PluginInvalid(status.name, hook_name, offer.name, "each name once")
                    names.add(offer.name)
                gathered[family] = list(offers)
        return gathered

    def clashes(self) -> list[PluginClash]:
        """Every name clash among the loaded plugins; empty where all is well."""
        found = []
        for family in FAMILIES:
            try:
                self._family(family)
            except PluginClash as clash:
                found.append(clash)
        return found

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

    def by_scheme(self, family: str, uri: str, *, holds: str = "decisions") -> Offer:
        """The registry or store whose schemes hold the URI's; a bare path has the scheme `file`.

        Of stores those that hold `decisions`, or learning `state`.
        """
        offers = {name: o for name, o in self.offers(family).items() if getattr(o, "holds", holds) == holds}
        schemes = {known for offer in offers.values() for known in getattr(offer, "schemes", ())}
        head, colon, _ = uri.partition(":")
        # `parquet:log` is a path relative to the folder that one is in.
        named = "://" in uri or uri.startswith("databricks") or (colon and head.lower() in schemes)
        # `parqet:log` is rather a misspelt scheme than a folder of such a name; `./parqet:log` is one.
        misspelt = bool(colon) and head.isalpha() and len(head) > 1 and not Path(uri).exists()
        scheme = head.lower() if named or misspelt else "file"
        # `postgresql+psycopg2://` is `postgresql://` with a driver.
        wanted = {scheme, scheme.partition("+")[0]}
        found = [offer for offer in offers.values() if wanted & set(getattr(offer, "schemes", ()))]
        if len(found) > 1:
            providers = [f"{offer.name!r} of {self.provider(family, offer.name).provider}" for offer in found]
            raise PluginClash(f"{family} for the scheme", scheme, providers)
        if not found:
            raise InvalidInput(
                f"No {family} plugin handles {uri!r} (scheme {scheme!r}). "
                f"Schemes: {', '.join(sorted(schemes)) or 'none'}."
                + (f"{nearest(head, schemes)} A path is written ./{uri}" if misspelt and not named else "")
            )
        return found[0]

    def tell(self, event: Event) -> None:
        """Pass an event to every plugin; one that raises is logged and stops nothing."""
        for implementation in self._manager.hook.lepton_event.get_hookimpls():
            try:
                implementation.function(event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                trace = error if logger.isEnabledFor(logging.DEBUG) else None
                reason = _reason(error)
                name = implementation.plugin_name
                logger.error("plugin %r failed on %r: %s", name, event.kind, reason, exc_info=trace)


def _reason(error: BaseException) -> str:
    """One line for `lepton plugins`: the error's class and what it says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _entry_points() -> list[tuple[EntryPoint, Distribution]]:
    found = [(entry, dist) for dist in distributions() for entry in dist.entry_points if entry.group == GROUP]
    if any(dist.name == DISTRIBUTION for _, dist in found):
        # A model that MLflow has loaded carries some of the plugins that are installed here, too.
        found = [(entry, dist) for entry, dist in found if dist.name != EMBEDDED]
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
        f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors()
    )
