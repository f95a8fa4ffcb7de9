"""Simple conditions without CEL's machinery: comparisons of columns with literals, as CEL decides them.

Most rules are such: `carrier == "UA" && distance > 500.0`, `header["x-tenant"].startsWith("gold")`, or with arithmetic
`price * 1.19 - paid > 100.0`. For values of the
literals' own kinds there is nothing in CEL that could decide otherwise; values of another kind (text beyond ASCII,
whole numbers beyond what a double holds) and all other conditions are left to CEL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from lepton_selection.alternatives import LONGEST, first_of
from lepton_selection.condition import Condition, context_of, feature_of
from lepton_selection.simple_condition import EXACT, GREATEST, Atom, Node, parsed

#: From the values of the features to the first rule that holds, NONE, or OPEN where CEL must decide.
FirstRule = Callable[..., int]
#: The same, and the first rule before it that a missing value left undecided, or -1.
FirstOfAll = Callable[..., tuple[int, int]]
NONE, OPEN = -1, -2

_GUARDS = {
    "text": "type({0}) is str and {0}.isascii()",
    "number": f"(type({{0}}) is float and {{0}} == {{0}} or type({{0}}) is int and -{EXACT} <= {{0}} <= {EXACT})",
    "whole": f"(type({{0}}) is int and -{GREATEST['whole']} <= {{0}} <= {GREATEST['whole']})",
    "double": f"(type({{0}}) is float and -{GREATEST['double']} <= {{0}} <= {GREATEST['double']})",
    "truth": "type({0}) is bool",
}
_BUILTINS = {"type": type, "str": str, "float": float, "int": int, "bool": bool, "len": len, "Exception": Exception}


def first_rule(sources: Sequence[str], features: Sequence[str]) -> FirstRule | None:
    """One function for conditions in their order, for rows that lack nothing; None where one of them isn't simple."""
    names = _variables(features)
    tests, kinds = parsed(sources, features)
    if None in tests:
        return None
    guards = " and ".join(_GUARDS[kind].format(names[feature]) for feature, kind in kinds.items()) or "True"
    lines = [f"def first({', '.join(names.values())}):", f" if not ({guards}): return {OPEN}"]
    lines += [f" if {_certain(test, names)}: return {rule}" for rule, test in enumerate(tests) if test is not None]
    lines.append(f" return {NONE}")
    made: FirstRule = _made(lines, {})
    return made


def first_of_all(conditions: Sequence[Condition], features: Sequence[str]) -> FirstOfAll:
    """One function for all conditions and for rows that lack values (None, NaN).

    Conditions that aren't simple are CEL's to decide, on values that are converted once for all of them.
    """
    names = _variables(features)
    tests, kinds = parsed([condition.source for condition in conditions], features)
    others = [condition for condition, test in zip(conditions, tests, strict=True) if test is None]
    places = tuple(dict.fromkeys(place for condition in others for place in condition.places))
    values = ", ".join(f"{feature!r}: {names[feature]}" for feature in dict.fromkeys(map(feature_of, places)))
    given: dict[str, Any] = {"context_of": context_of, "places": places, "_not": _not, "_and": _and, "_or": _or}
    lines = [f"def first({', '.join(names.values())}):", " there = None", " lacking = -1"]
    for feature, kind in kinds.items():
        name = names[feature]
        lines += [
            f" if {_GUARDS[kind].format(name)}: {name}_there = True",
            f" elif {name} is None or type({name}) is float and {name} != {name}: {name}_there = False",
            f" else: return {OPEN}, -1",
        ]
    rule = 0
    while rule < len(tests):
        test = tests[rule]
        if test is not None:
            lines += _decided(rule, _undecided(test, names))
            rule += 1
            continue
        row = list(takewhile(lambda index: tests[index] is None, range(rule, min(rule + LONGEST, len(tests)))))
        given |= {f"holds{index}": conditions[index].holds for index in row}
        asked = [line for index in row for line in _decided(index, f"holds{index}(there)")]
        lines.append(f" if there is None: there = context_of(places, {{{values}}})")
        at_once = first_of([conditions[index] for index in row]) if len(row) > 1 else None
        if at_once is not None:
            given[f"first{rule}"] = at_once
            lines += [
                f" try: found = first{rule}(there)",
                " except Exception:",
                *(f" {line}" for line in asked),
                " else:",
                f"  if found >= 0: return {rule} + found, lacking",
            ]
        else:
            lines += asked
        rule += len(row)
    lines.append(f" return {NONE}, lacking")
    made: FirstOfAll = _made(lines, given)
    return made


def _decided(rule: int, found: str) -> list[str]:
    return [
        f" found = {found}",
        f" if found: return {rule}, lacking",
        f" if found is None and lacking < 0: lacking = {rule}",
    ]


def _variables(features: Sequence[str]) -> dict[str, str]:
    return {feature: f"v{index}" for index, feature in enumerate(features)}


def _made(lines: Sequence[str], given: dict[str, Any]) -> Any:
    made: dict[str, Any] = {"__builtins__": _BUILTINS, **given}
    # Only names of ours and literals, written anew, stand in it.
    exec("\n".join(lines), made)
    return made["first"]


def _certain(node: Node, names: dict[str, str]) -> str:
    """In Python, where every value is there."""
    if isinstance(node, Atom):
        return f"({node.test.format(*names.values())})"
    parts = [_certain(part, names) for part in node.parts]
    return f"(not {parts[0]})" if node.word == "not" else f"({f' {node.word} '.join(parts)})"


def _undecided(node: Node, names: dict[str, str]) -> str:
    """In Python, None where a value that decides isn't there."""
    if isinstance(node, Atom):
        there = " and ".join(f"{names[feature]}_there" for feature in dict.fromkeys(node.features))
        return f"(({node.test.format(*names.values())}) if {there} else None)"
    return f"_{node.word}({', '.join(_undecided(part, names) for part in node.parts)})"


def _not(found: bool | None) -> bool | None:
    return None if found is None else not found


def _and(*found: bool | None) -> bool | None:
    return False if False in found else None if None in found else True


def _or(*found: bool | None) -> bool | None:
    return True if True in found else None if None in found else False
