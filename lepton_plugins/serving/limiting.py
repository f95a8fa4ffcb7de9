"""A server's limits as people write them: `body=64Mi`, on the command line or in LEPTON_LIMITS."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from lepton_plugins.errors import InvalidInput
from lepton_plugins.plugins import validation_lines
from lepton_plugins.records.quantity import parse_bytes, parse_seconds
from lepton_plugins.serving.settings import Limits

VARIABLE = "LEPTON_LIMITS"


def limits_from(environ: Mapping[str, str], given: Mapping[str, str] | None = None) -> Limits:
    """The defaults, over them those of LEPTON_LIMITS (`body=64Mi,rows=1000`), over them those `given`.

    InvalidInput names the limit, what was found and what there is.
    """
    named: dict[str, str] = {}
    for pair in environ.get(VARIABLE, "").split(","):
        if pair.strip():
            name, separator, value = pair.partition("=")
            if not separator:
                raise InvalidInput(f"{VARIABLE}: found {pair.strip()!r}, expected NAME=VALUE, joined by commas.")
            named[name.strip()] = value
    named |= given or {}
    read: dict[str, object] = {}
    for name, value in named.items():
        field = Limits.model_fields.get(name)
        if field is None:
            raise InvalidInput(f"Found the limit {name!r}, expected one of {', '.join(Limits.model_fields)}.")
        try:
            read[name] = parse_seconds(value) if field.annotation is float else parse_bytes(value)
        except ValueError as error:
            raise InvalidInput(f"The limit {name}: {error}.") from None
    try:
        return Limits.model_validate(read)
    except ValidationError as error:
        raise InvalidInput(f"Limits: {validation_lines(error)}.") from None
