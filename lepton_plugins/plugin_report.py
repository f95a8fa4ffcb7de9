"""What `lepton plugins` shows: each plugin, where it comes from, what it offers, or why it failed."""

from __future__ import annotations

from lepton_plugins.listing import Column, Listing
from lepton_plugins.plugins import PluginStatus, plugins
from lepton_plugins.records.record import Record


class OfferEntry(Record):
    """One thing a plugin offers."""

    family: str
    name: str
    summary: str
    target: str
    missing: tuple[str, ...] = ()
    """Packages that using it needs and that aren't installed here."""
    install: str = ""


class PluginEntry(Record):
    """One plugin."""

    name: str
    distribution: str
    version: str
    offers: tuple[OfferEntry, ...] = ()
    load_ms: float
    error: str | None = None


def plugin_report() -> Listing[PluginEntry]:
    """All plugins of this process, in the order in which they were loaded."""
    columns: list[Column[PluginEntry]] = [
        Column("plugin", lambda entry: entry.name),
        Column("from", lambda entry: f"{entry.distribution} {entry.version}".strip()),
        Column("offers", _offers),
        Column("ms", lambda entry: f"{entry.load_ms:.1f}", figures=True),
    ]
    return Listing([_entry(status) for status in plugins().statuses.values()], columns, empty="No plugins.")


def _entry(status: PluginStatus) -> PluginEntry:
    return PluginEntry(
        name=status.name,
        distribution=status.distribution,
        version=status.version,
        offers=tuple(
            OfferEntry(
                family=family,
                name=offer.name,
                summary=offer.summary,
                target=offer.target,
                missing=offer.missing(),
                install=offer.install,
            )
            for family, offers in status.offers.items()
            for offer in offers
        ),
        load_ms=round(status.seconds * 1000, 2),
        error=status.error,
    )


def _offers(entry: PluginEntry) -> str:
    if entry.error is not None:
        return f"failed: {entry.error}"
    lines = [
        f"{offer.family} {offer.name}" + (f" (needs {', '.join(offer.missing)})" if offer.missing else "")
        for offer in entry.offers
    ]
    return "\n".join(lines) or "events only"
