"""Simple conditions without CEL's machinery: comparisons of columns with literals, as CEL decides them.

Most rules are such: `carrier == "UA" && distance > 500.0`, `header["x-tenant"].startsWith("gold")`. For values of the
literals' own kinds there is nothing in CEL that could decide otherwise; values of another kind (text beyond ASCII,
whole numbers beyond what a double holds) and all other conditions are left to CEL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from lepton_plugins.routing.policy import HEADER
from lepton_selection.condition import Condition, context_of, feature_of

#: From the values of the features to the first rule that holds, NONE, or OPEN where CEL must decide.
FirstRule = Callable[..., int]
#: The same, and the first rule before it that a missing value left undecided, or -1.
FirstOfAll = Callable[..., tuple[int, int]]
NONE, OPEN = -1, -2

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"\\\n]*"|'[^'\\\n]*')
    |(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\],.]))""",
    re.VERBOSE,
)
_EXACT = 2**53
_WORDS = {"true", "false", "null", "in"}
_RELATIONS = ("==", "!=", "<", "<=", ">", ">=")
_GUARDS = {
    "text": "type({0}) is str and {0}.isascii()",
    "number": f"(type({{0}}) is float and {{0}} == {{0}} or type({{0}}) is int and -{_EXACT} <= {{0}} <= {_EXACT})",
    "truth": "type({0}) is bool",
}
_CALLS = {"startsWith": "{0}.startswith({1})", "endsWith": "{0}.endswith({1})", "contains": "({1} in {0})"}
_BUILTINS = {"type": type, "str": str, "float": float, "int": int, "bool": bool, "len": len}


class _Atom(NamedTuple):
    """A test of one feature's value, which stands in it as {0}."""

    feature: str
    test: str


class _Joined(NamedTuple):
    """Parts under `and`, `or`, or one part under `not`."""

    word: str
    parts: tuple[_Node, ...]


_Node = _Atom | _Joined


class _Value(NamedTuple):
    """What is tested: a feature's value itself (of no kind yet), or what a call makes of a text."""

    feature: str
    test: str
    kind: str | None


class _Beyond(Exception):
    """A condition that isn't simple."""


def first_rule(sources: Sequence[str], features: Sequence[str]) -> FirstRule | None:
    """One function for conditions in their order, for rows that lack nothing; None where one of them isn't simple."""
    names = _variables(features)
    tests, kinds = _parsed(sources, features)
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
    tests, kinds = _parsed([condition.source for condition in conditions], features)
    others = [condition for condition, test in zip(conditions, tests, strict=True) if test is None]
    places = tuple(dict.fromkeys(place for condition in others for place in condition.places))
    values = ", ".join(f"{feature!r}: {names[feature]}" for feature in dict.fromkeys(map(feature_of, places)))
    lines = [f"def first({', '.join(names.values())}):", " there = None", " lacking = -1"]
    for feature, kind in kinds.items():
        name = names[feature]
        lines += [
            f" if {_GUARDS[kind].format(name)}: {name}_there = True",
            f" elif {name} is None or type({name}) is float and {name} != {name}: {name}_there = False",
            f" else: return {OPEN}, -1",
        ]
    for rule, test in enumerate(tests):
        if test is None:
            lines.append(f" if there is None: there = context_of(places, {{{values}}})")
            lines.append(f" found = holds[{rule}](there)")
        else:
            lines.append(f" found = {_undecided(test, names)}")
        lines += [f" if found: return {rule}, lacking", f" if found is None and lacking < 0: lacking = {rule}"]
    lines.append(f" return {NONE}, lacking")
    holds = [condition.holds for condition in conditions]
    given = {"holds": holds, "context_of": context_of, "places": places, "_not": _not, "_and": _and, "_or": _or}
    made: FirstOfAll = _made(lines, given)
    return made


def _variables(features: Sequence[str]) -> dict[str, str]:
    return {feature: f"v{index}" for index, feature in enumerate(features)}


def _made(lines: Sequence[str], given: dict[str, Any]) -> Any:
    made: dict[str, Any] = {"__builtins__": _BUILTINS, **given}
    # Only names of ours and literals, written anew, stand in it.
    exec("\n".join(lines), made)
    return made["first"]


def _parsed(sources: Sequence[str], features: Sequence[str]) -> tuple[list[_Node | None], dict[str, str]]:
    """The conditions, None for one that isn't simple, and the kind of the features that they test."""
    tests: list[_Node | None] = []
    kinds: dict[str, str] = {}
    for source in sources:
        try:
            parser = _Parser(source, features, dict(kinds))
            tests.append(parser.parsed())
            kinds = parser.kinds
        except _Beyond:
            tests.append(None)
    return tests, kinds


def _certain(node: _Node, names: dict[str, str]) -> str:
    """In Python, where every value is there."""
    if isinstance(node, _Atom):
        return f"({node.test.format(names[node.feature])})"
    parts = [_certain(part, names) for part in node.parts]
    return f"(not {parts[0]})" if node.word == "not" else f"({f' {node.word} '.join(parts)})"


def _undecided(node: _Node, names: dict[str, str]) -> str:
    """In Python, None where a value that decides isn't there."""
    if isinstance(node, _Atom):
        name = names[node.feature]
        return f"(({node.test.format(name)}) if {name}_there else None)"
    return f"_{node.word}({', '.join(_undecided(part, names) for part in node.parts)})"


def _not(found: bool | None) -> bool | None:
    return None if found is None else not found


def _and(*found: bool | None) -> bool | None:
    return False if False in found else None if None in found else True


def _or(*found: bool | None) -> bool | None:
    return True if True in found else None if None in found else False


class _Parser:
    """CEL's own precedence: `!`, comparisons, `&&`, `||`; a comparison is of a column and a literal."""

    def __init__(self, source: str, features: Sequence[str], kinds: dict[str, str]) -> None:
        self._tokens = [*_tokens(source), ("end", "")]
        self._features = features
        self.kinds = kinds
        self._at = 0

    def parsed(self) -> _Node:
        found = self._any()
        if self._tokens[self._at][0] != "end":
            raise _Beyond
        return found

    def _any(self) -> _Node:
        parts = [self._all()]
        while self._took("||"):
            parts.append(self._all())
        return _Joined("or", tuple(parts)) if len(parts) > 1 else parts[0]

    def _all(self) -> _Node:
        parts = [self._one()]
        while self._took("&&"):
            parts.append(self._one())
        return _Joined("and", tuple(parts)) if len(parts) > 1 else parts[0]

    def _one(self) -> _Node:
        if self._took("!"):
            # What follows has no relation of its own: in CEL `!` binds closer.
            return _Joined("not", (self._whole() if self._took("(") else self._truth(self._value()),))
        if self._took("("):
            return self._whole()
        kind, token = self._tokens[self._at]
        if kind in ("text", "number") or token in ("true", "false"):
            literal, of = self._literal()
            sign = self._relation()
            value = self._value()
            return self._test(value, of, sign, f"{literal} {sign} {value.test}")
        value = self._value()
        if self._tokens[self._at] == ("name", "in") and value.kind is None:
            self._at += 1
            return self._listed(value.feature)
        if self._tokens[self._at][1] not in _RELATIONS:
            return self._truth(value)
        sign = self._relation()
        literal, of = self._literal()
        return self._test(value, of, sign, f"{value.test} {sign} {literal}")

    def _whole(self) -> _Node:
        found = self._any()
        self._must(")")
        return found

    def _value(self) -> _Value:
        name = self._next("name")
        if name == "size" and self._took("("):
            feature = self._feature(self._next("name"))
            self._must(")")
            return self._called(feature, "len({0})", "number")
        feature = self._feature(name)
        if not self._took("."):
            return _Value(feature, "{0}", None)
        call = self._next("name")
        self._must("(")
        if call == "size":
            self._must(")")
            return self._called(feature, "len({0})", "number")
        if call not in _CALLS:
            raise _Beyond
        literal = _text(self._next("text"))
        self._must(")")
        return self._called(feature, _CALLS[call].replace("{1}", literal), "truth")

    def _feature(self, name: str) -> str:
        """The feature of a name, of `column["any name"]` or of `header["x-tenant"]`."""
        if name in ("column", "header") and self._took("["):
            key = self._next("text")[1:-1]
            self._must("]")
            name = HEADER + key if name == "header" else key
        elif name in _WORDS:
            raise _Beyond
        if name not in self._features:
            raise _Beyond
        return name

    def _called(self, feature: str, test: str, kind: str) -> _Value:
        self._is(feature, "text")
        return _Value(feature, test, kind)

    def _truth(self, value: _Value) -> _Node:
        """What is true or false by itself."""
        if value.kind is None:
            self._is(value.feature, "truth")
        elif value.kind != "truth":
            raise _Beyond
        return _Atom(value.feature, value.test)

    def _test(self, value: _Value, of: str, sign: str, test: str) -> _Node:
        """A comparison with a literal of the kind `of`."""
        if value.kind is None:
            self._is(value.feature, of)
        elif value.kind != of:
            raise _Beyond
        if of == "truth" and sign not in ("==", "!="):
            raise _Beyond
        return _Atom(value.feature, test)

    def _is(self, feature: str, kind: str) -> None:
        if self.kinds.setdefault(feature, kind) != kind:
            raise _Beyond

    def _listed(self, feature: str) -> _Node:
        self._must("[")
        literals = [self._literal()]
        while self._took(","):
            literals.append(self._literal())
        self._must("]")
        for _, kind in literals:
            self._is(feature, kind)
        return _Atom(feature, f"{{0}} in ({', '.join(literal for literal, _ in literals)},)")

    def _literal(self) -> tuple[str, str]:
        """A literal in Python, and its kind."""
        kind, token = self._tokens[self._at]
        self._at += 1
        if token in ("true", "false"):
            return token.title(), "truth"
        if kind == "text":
            return _text(token), "text"
        if kind != "number":
            raise _Beyond
        value = int(token) if re.fullmatch(r"-?[0-9]+", token) else float(token)
        if not abs(value) <= _EXACT:
            raise _Beyond
        return repr(value), "number"

    def _relation(self) -> str:
        sign = self._tokens[self._at][1]
        if sign not in _RELATIONS:
            raise _Beyond
        self._at += 1
        return sign

    def _next(self, kind: str) -> str:
        found, token = self._tokens[self._at]
        if found != kind:
            raise _Beyond
        self._at += 1
        return token

    def _took(self, sign: str) -> bool:
        if self._tokens[self._at] != ("sign", sign):
            return False
        self._at += 1
        return True

    def _must(self, sign: str) -> None:
        if not self._took(sign):
            raise _Beyond


def _text(token: str) -> str:
    """A text literal in Python, as part of a format."""
    return repr(token[1:-1]).replace("{", "{{").replace("}", "}}")


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    at, source = 0, source.rstrip()
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise _Beyond
        kind = str(match.lastgroup)
        yield kind, match[kind]
        at = match.end()
