"""JSON bodies: decoded by type, and what is wrong with one in a sentence."""

from __future__ import annotations

import json
from math import isfinite
from typing import TypeVar

import msgspec

from lepton_plugins.errors import RequestInvalid

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as the decoder's type; RequestInvalid says where it isn't.

    `NaN` isn't JSON, but Python's writer writes it and MLflow's client sends it: it is read as null.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RequestInvalid(f"The body doesn't fit the protocol: {error}") from None
    except RecursionError:
        raise RequestInvalid("The body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if b"NaN" in body:
            return decode(decoder, _without_nan(body))
        raise RequestInvalid(f"The body isn't JSON: {error}" if body else "The body is empty") from None


def _without_nan(body: bytes) -> bytes:
    try:
        return msgspec.json.encode(json.loads(body, parse_constant=_constant, parse_float=_finite))
    except (ValueError, OverflowError, RecursionError):
        raise RequestInvalid("The body isn't JSON") from None


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError(text)  # It would be written as null.
    return number


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(name)
