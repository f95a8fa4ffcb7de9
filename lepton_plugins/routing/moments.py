"""Parameters that are dates or times: ISO 8601 text all the way, since how it is written tells a date from a time."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np

from lepton_plugins.errors import InputInvalid
from lepton_plugins.records.signature import Field


def is_moment(field: Field) -> bool:
    """Whether a field is a parameter that is a date or a time."""
    return field.parameter and field.dtype.startswith("datetime64")


def moment_text(field: Field, value: object) -> str | None:
    """A date or time as ISO 8601 text without an offset, in UTC where it had one; None for NaT.

    What MLflow takes: whatever `numpy.datetime64` reads as a date or a time of microseconds
    (`mlflow.models.utils._enforce_param_datatype`). InputInvalid names the field.
    """
    if isinstance(value, np.datetime64):
        value = value.astype("M8[us]").item()
        if value is None:
            return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and len(value) > 10 else value
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            value = moment.astimezone(UTC).replace(tzinfo=None)
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, str) and isinstance(np.datetime64(value).item(), date):
            return value
    except (ValueError, OverflowError):
        pass
    shown = repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    raise InputInvalid(field.name, shown[:100], "a date or a time by ISO 8601")
