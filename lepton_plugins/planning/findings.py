"""What is wrong with a plan file, in sentences: place, what was found, what was expected."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from lepton_plugins.errors import nearest

#: A place in the file: keys and list positions from the top.
Place = tuple[str | int, ...]
#: pydantic's type of the error that a name isn't a version's: a whole sentence, whatever else was allowed there.
UNKNOWN_VERSION = "unknown_version"


def findings(
    error: ValidationError, root: type[BaseModel] = BaseModel, data: Any = None, at: Place = ()
) -> list[tuple[Place, str]]:
    """pydantic's findings about `data`, one for each place, with the place below `at`.

    `root` is the model that `data` was to be: of an unknown key it tells the known ones. Where a value may be one
    of several kinds pydantic reports each kind that failed; these are joined.
    """
    grouped: dict[Place, list[tuple[str, str]]] = {}
    items = [(_in_data(item["loc"], data), item) for item in error.errors()]
    named = {place for place, item in items if item["type"] == UNKNOWN_VERSION}
    for place, item in items:
        # What pydantic also found there, or in what holds it (a list without its invalid items), follows from it.
        if item["type"] != UNKNOWN_VERSION and any(place == name[: len(place)] for name in named):
            continue
        found, expected = _sentence(item, root, place)
        grouped.setdefault(place, []).append((found, expected))
    sentences = []
    for place, parts in grouped.items():
        alternatives = list(dict.fromkeys(expected for _, expected in parts))
        sentences.append(((*at, *place), f"{parts[0][0]}{' or '.join(alternatives)}"))
    return sentences


def dotted(place: Place) -> str:
    """`policy.params.by[0]`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _in_data(location: Sequence[str | int], data: Any) -> Place:
    """pydantic's location without the names of alternatives, which aren't keys of the file."""
    place: list[str | int] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(data, Mapping) and (part in data or (last and isinstance(part, str) and "[" not in part)):
            place.append(part)
            data = data.get(part)
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            place.append(part)
            data = data[part]
    return tuple(place)


def _sentence(item: Any, root: type[BaseModel], place: Place) -> tuple[str, str]:
    """(what was found, what was expected) of one of pydantic's findings."""
    kind, message = item["type"], item["msg"]
    if kind == "extra_forbidden":
        known = _keys(root, place[:-1])
        return f"unknown key {place[-1]!r}.", nearest(str(place[-1]), known)
    if kind == "missing":
        return "found nothing, expected ", f"the key {place[-1]!r}"
    if kind == UNKNOWN_VERSION:
        return "", message
    if kind in ("value_error", "assertion_error"):
        return "", message.partition(", ")[2]
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        keys = _keys(root, place)
        listed = f" with the key{'s' if len(keys) > 1 else ''} {', '.join(sorted(keys))}" if keys else ""
        message = f"Input should be a mapping{listed}"
    if kind == "string_pattern_mismatch":
        message = f"a text that matches {item['ctx']['pattern']}"
    expected = message.removeprefix("Input should be ").partition(", unable to parse")[0]
    return f"found {_shown(item['input'])}, expected ", expected


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _keys(root: type[BaseModel], place: Iterable[str | int]) -> set[str]:
    """The keys that the model at a place knows; empty where it is no model."""
    models = {root}
    for part in place:
        below: set[type[BaseModel]] = set()
        for model in models:
            if isinstance(part, int) or part not in model.model_fields:
                continue
            below |= _models(model.model_fields[part].annotation)
        models = below
    return {name for model in models for name in model.model_fields}


def _models(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return {model for part in typing.get_args(annotation) for model in _models(part)}
    return set()
