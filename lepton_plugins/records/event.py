"""What plugins are told when something happened."""

from __future__ import annotations

from typing import Any, Literal

from lepton_plugins.records.record import Record

EventKind = Literal["registered", "evaluated", "planned", "promoted", "rolled_back", "generated", "failed"]


class Event(Record):
    """Something happened to `model`; `detail` holds plain JSON values that depend on the kind."""

    kind: EventKind
    model: str
    version: str | None = None
    detail: dict[str, Any] = {}
