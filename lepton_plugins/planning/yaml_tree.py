"""YAML with places: plain values, the line of each, and what YAML itself would let pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from lepton_plugins.planning.findings import Place

#: Aliases may make a small file a huge tree ("billion laughs"); no plan has this many values.
_MOST_VALUES = 20_000
_MOST_DEPTH = 40
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _Loader(yaml.SafeLoader):
    """YAML's safe types without dates: a plan has none, and `2024-01-01` may be a label."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_tree(text: str) -> tuple[Any, Mapping[Place, int], list[tuple[Place, str]]]:
    """(values, the line of each place, findings). Keys are text, as written. Raises yaml.YAMLError."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        reader = _Reader(loader)
        value = reader.value(node, ()) if node is not None else None
    finally:
        loader.dispose()
    return value, reader.lines, reader.findings


class _Reader:
    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._values = 0
        self.lines: dict[Place, int] = {}
        self.findings: list[tuple[Place, str]] = []

    def value(self, node: yaml.Node, place: Place) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES or len(place) > _MOST_DEPTH:
            raise yaml.constructor.ConstructorError(
                None, None, f"found more than {_MOST_VALUES:,} values, or deeper than {_MOST_DEPTH}", node.start_mark
            )
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.CollectionNode) and node.tag not in _PLAIN:
            self.findings.append((place, f"found the tag {node.tag}, expected a plain list or mapping"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
        plain = self._loader.construct_object(node)
        if isinstance(plain, float) and not math.isfinite(plain):
            self.findings.append((place, f"found {node.value}, expected a finite number"))
        if not isinstance(plain, str | int | float | bool | None):
            self.findings.append((place, f"found {node.tag}, expected text, a number, true or false"))
            return None
        return plain

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.findings.append((place, f"line {line}: found a key that isn't text or a number"))
                continue
            below = (*place, key.value)
            if key.value in found:
                self.findings.append(
                    (below, f"found the key {key.value!r} a second time in line {line}, expected each key once")
                )
                continue
            self.lines[below] = line
            found[key.value] = self.value(value, below)
        return found
