"""Simple conditions of CEL, read: comparisons of columns and headers with literals, and what joins them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lepton_plugins.routing.policy import HEADER

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"\\\n]*"|'[^'\\\n]*')
    |(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\],.]))""",
    re.VERBOSE,
)
EXACT = 2**53
_WORDS = {"true", "false", "null", "in"}
_RELATIONS = ("==", "!=", "<", "<=", ">", ">=")
_CALLS = {"startsWith": "{0}.startswith({1})", "endsWith": "{0}.endswith({1})", "contains": "({1} in {0})"}


class Atom(NamedTuple):
    """A test of one feature's value, which stands in it as {0}."""

    feature: str
    test: str


class Joined(NamedTuple):
    """Parts under `and`, `or`, or one part under `not`."""

    word: str
    parts: tuple[Node, ...]


Node = Atom | Joined


class _Value(NamedTuple):
    """What is tested: a feature's value itself (of no kind yet), or what a call makes of a text."""

    feature: str
    test: str
    kind: str | None


class _Beyond(Exception):
    """A condition that isn't simple."""


def parsed(sources: Sequence[str], features: Sequence[str]) -> tuple[list[Node | None], dict[str, str]]:
    """The conditions, None for one that isn't simple, and the kind of the features that they test."""
    tests: list[Node | None] = []
    kinds: dict[str, str] = {}
    for source in sources:
        try:
            parser = _Parser(source, features, dict(kinds))
            tests.append(parser.parsed())
            kinds = parser.kinds
        except _Beyond:
            tests.append(None)
    return tests, kinds


class _Parser:
    """CEL's own precedence: `!`, comparisons, `&&`, `||`; a comparison is of a column and a literal."""

    def __init__(self, source: str, features: Sequence[str], kinds: dict[str, str]) -> None:
        self._tokens = [*_tokens(source), ("end", "")]
        self._features = features
        self.kinds = kinds
        self._at = 0

    def parsed(self) -> Node:
        found = self._any()
        if self._tokens[self._at][0] != "end":
            raise _Beyond
        return found

    def _any(self) -> Node:
        parts = [self._all()]
        while self._took("||"):
            parts.append(self._all())
        return Joined("or", tuple(parts)) if len(parts) > 1 else parts[0]

    def _all(self) -> Node:
        parts = [self._one()]
        while self._took("&&"):
            parts.append(self._one())
        return Joined("and", tuple(parts)) if len(parts) > 1 else parts[0]

    def _one(self) -> Node:
        if self._took("!"):
            # What follows has no relation of its own: in CEL `!` binds closer.
            return Joined("not", (self._whole() if self._took("(") else self._truth(self._value()),))
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

    def _whole(self) -> Node:
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

    def _truth(self, value: _Value) -> Node:
        """What is true or false by itself."""
        if value.kind is None:
            self._is(value.feature, "truth")
        elif value.kind != "truth":
            raise _Beyond
        return Atom(value.feature, value.test)

    def _test(self, value: _Value, of: str, sign: str, test: str) -> Node:
        """A comparison with a literal of the kind `of`."""
        if value.kind is None:
            self._is(value.feature, of)
        elif value.kind != of:
            raise _Beyond
        if of == "truth" and sign not in ("==", "!="):
            raise _Beyond
        return Atom(value.feature, test)

    def _is(self, feature: str, kind: str) -> None:
        if self.kinds.setdefault(feature, kind) != kind:
            raise _Beyond

    def _listed(self, feature: str) -> Node:
        self._must("[")
        literals = [self._literal()]
        while self._took(","):
            literals.append(self._literal())
        self._must("]")
        for _, kind in literals:
            self._is(feature, kind)
        return Atom(feature, f"{{0}} in ({', '.join(literal for literal, _ in literals)},)")

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
        if not abs(value) <= EXACT:
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
