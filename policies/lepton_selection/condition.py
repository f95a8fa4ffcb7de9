"""One condition in CEL (https://cel.dev) over a request's columns and headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import cel

from lepton_plugins.records.signature import Field
from lepton_plugins.routing.policy import HEADER

_LONGEST, _DEEPEST = 1000, 16
#: Text in quotes: raw, or with escapes.
_TEXT = re.compile(r"""[rR](?:"[^"]*"|'[^']*')|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""")
_LOOKUP = re.compile(r"""\b(header|column)\s*\[\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\]""")
_MACRO = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*(\w+)?")
_MAPS = ("header", "column")

#: Where a value is looked up: by its name, or in the map `header` or `column`.
Place = tuple[Literal["name", "header", "column"], str]


class Condition:
    """A compiled condition: true, false, or undecided where a value that it needs is missing.

    A column is called by its name, or `column["any name"]` where that is no identifier, a header
    `header["x-tenant"]`. ValueError says what is wrong with the text. Any thread may use it; it doesn't pickle.
    """

    def __init__(self, source: str) -> None:
        bare = _TEXT.sub('""', source)
        _check_size(source, bare)
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            raise ValueError(f"found {source!r}, which isn't CEL: {_first_line(error)}") from None
        bound = set(_MACRO.findall(bare))
        places: dict[Place, None] = {
            ("name", name): None for name in self._program.variables() if name not in bound and name not in _MAPS
        }
        for kind, first, second in _LOOKUP.findall(source):
            places[kind, first or second] = None
        for kind in _MAPS:
            names = [name for place, name in places if place == kind]
            if kind in self._program.variables() and not names:
                raise ValueError(f'found {source!r}, expected {kind}["name"], the name in quotes')
            if kind == "header" and any(name != name.lower() for name in names):
                raise ValueError(f"found {source!r}, expected headers in lower case")
        self.source = source
        self.places = tuple(places)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that it reads; a header x is the column `header:x`."""
        return tuple(dict.fromkeys(feature_of(place) for place in self.places))

    def holds(self, context: cel.Context) -> bool | None:
        """Whether it is true; None where a value is missing or of a kind that it can't be compared with."""
        try:
            return self._program.execute(context) is True
        except Exception:
            return None

    def problem(self, fields: Mapping[str, Field]) -> str | None:
        """What is wrong with it for columns of these dtypes, found by trying it on a value of each."""
        values = {name: _sample(fields[name].dtype) if name in fields else "text" for name in self.features}
        if any(value is None for value in values.values()):
            return None  # A column of objects: anything may come.
        try:
            found = self._program.execute(context_of(self.places, values))
        except Exception as error:
            if not isinstance(error, TypeError) and "Undefined" not in str(error):
                return None  # It depends on the value.
            kinds = ", ".join(f"{name} is {fields[name].dtype}" for name in values if name in fields)
            return _first_line(error) + (f" Here {kinds}" if kinds else "")
        return None if isinstance(found, bool) else f"it gives {type(found).__name__}, expected true or false"


def feature_of(place: Place) -> str:
    """The name by which a policy is given the column or header at a place."""
    return HEADER + place[1] if place[0] == "header" else place[1]


def context_of(places: Iterable[Place], values: Mapping[str, Any]) -> cel.Context:
    """The values at these places, for any number of conditions; those that are None or NaN aren't there."""
    known: dict[str, Any] = {}
    for kind, name in places:
        value = values.get(name if kind != "header" else HEADER + name)
        try:
            if value is None or value != value:
                continue
        except (TypeError, ValueError):
            continue  # pandas' NA is neither equal nor unequal.
        if kind == "name":
            known[name] = value
        else:
            known.setdefault(kind, {})[name] = value
    try:
        return cel.Context(known)  # All at once: half the time of one by one.
    except (TypeError, ValueError, OverflowError):
        return cel.Context(_fitting(known))


def _fitting(known: Mapping[str, Any]) -> dict[str, Any]:
    """Without the values that CEL has no type for."""
    found: dict[str, Any] = {}
    for name, value in known.items():
        value = _fitting(value) if name in _MAPS else value
        try:
            cel.Context({name: value})
        except (TypeError, ValueError, OverflowError):
            continue
        found[name] = value
    return found


def _check_size(source: str, bare: str) -> None:
    """A bound on the work that a condition can ask for."""
    if len(source) > _LONGEST:
        raise ValueError(f"found a condition of {len(source)} characters, expected at most {_LONGEST}")
    depth = deepest = 0
    for character in bare:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        raise ValueError(f"found a condition that is nested {deepest} deep, expected at most {_DEEPEST}")
    if len(_MACRO.findall(bare)) > 1:
        raise ValueError("found several of all, exists, map and filter in one condition, expected at most one")


def _sample(dtype: str) -> Any:
    if dtype == "str":
        return "text"
    if dtype.startswith("datetime"):
        from datetime import UTC, datetime

        return datetime.now(UTC)
    return {"bool": True, "int": 1, "uint": 1, "float": 1.5}.get(dtype.rstrip("0123456789"))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()[0]
    return text.split(": ", 2)[-1] if text.startswith("Failed to parse") else text
