"""Quantities as people write them in a plan file (8Gi, 500m, 200/s, 50ms), kept as plain numbers."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

_SUFFIX = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def parse_bytes(value: object) -> object:
    """Kubernetes' quantity for memory ("8Gi", "500M") or a plain number of bytes, as an int."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(Ki|Mi|Gi|Ti|k|M|G|T|)\s*", value)
        if not match:
            raise ValueError(f"found {value!r}, expected a size such as 512Mi, 8Gi or a number of bytes")
        return int(float(match[1]) * _SUFFIX[match[2]])
    return value


def parse_cpu(value: object) -> object:
    """Kubernetes' quantity for CPU ("500m", 4) as a number of cores."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(m?)\s*", value)
        if not match:
            raise ValueError(f"found {value!r}, expected cores such as 4, 0.5 or 500m")
        return float(match[1]) / (1000 if match[2] else 1)
    return value


def parse_rate(value: object) -> object:
    """Requests a second ("200/s", "12000/min", 200)."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:/\s*(s|min|h))?\s*", value)
        if not match:
            raise ValueError(f"found {value!r}, expected a rate such as 200/s or 12000/min")
        return float(match[1]) / {"s": 1, "min": 60, "h": 3600, None: 1}[match[2]]
    return value


def parse_seconds(value: object) -> object:
    """A duration ("50ms", "10s", "7d", "1.5") in seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|min|h|d|)\s*", value)
        if not match:
            raise ValueError(f"found {value!r}, expected a duration such as 50ms or 10s")
        return float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1, "": 1, "min": 60, "h": 3600, "d": 86_400}[match[2]]
    return value


def _written(kind: str, pattern: str, *examples: object) -> WithJsonSchema:
    """The schema of a quantity as people write it, not as it is kept: an editor checks the former."""
    number = {"type": kind, "minimum": 0}
    return WithJsonSchema(
        {"anyOf": [number, {"type": "string", "pattern": pattern}], "examples": list(examples)}, mode="validation"
    )


_NUMBER = r"^\s*[0-9]+(\.[0-9]+)?\s*"
Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    Field(ge=0),
    _written("integer", _NUMBER + r"(Ki|Mi|Gi|Ti|k|M|G|T|)\s*$", "8Gi", "512Mi"),
]
Cores = Annotated[
    float, BeforeValidator(parse_cpu), Field(ge=0), _written("number", _NUMBER + r"m?\s*$", 4, 0.5, "500m")
]
Rate = Annotated[
    float, BeforeValidator(parse_rate), Field(ge=0), _written("number", _NUMBER + r"(/\s*(s|min|h))?\s*$", "200/s")
]
Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds),
    Field(gt=0),
    _written("number", _NUMBER + r"(us|ms|s|min|h|d|)\s*$", "50ms", "10s"),
]
