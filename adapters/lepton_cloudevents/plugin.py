"""What Lepton offers for CloudEvents."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import StoreOffer


@hookimpl
def lepton_stores() -> list[StoreOffer]:
    return [
        StoreOffer(
            name="cloudevents",
            summary="Decisions and feedback as CloudEvents over HTTP",
            target="lepton_cloudevents.log:CloudEventsDecisionLog",
            schemes=("http", "https"),
        )
    ]
