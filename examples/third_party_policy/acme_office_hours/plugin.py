"""What this distribution offers. Nothing heavy is imported here: the target is resolved when it is used."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import PolicyOffer


@hookimpl
def lepton_policies() -> list[PolicyOffer]:
    return [
        PolicyOffer(
            name="office_hours",
            summary="One version by day, another by night",
            target="acme_office_hours.policy:OfficeHours",
        )
    ]
