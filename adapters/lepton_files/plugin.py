"""What Lepton offers on plain files."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import StoreOffer


@hookimpl
def lepton_stores() -> list[StoreOffer]:
    return [
        StoreOffer(
            name="jsonl",
            summary="Decisions and feedback as JSON Lines in a directory",
            target="lepton_files.jsonl:JsonLinesDecisionLog",
            schemes=("file", "jsonl"),
        )
    ]
