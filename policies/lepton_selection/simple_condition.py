"""Simple conditions of CEL, read: comparisons of columns and headers with literals, and what joins them.

A side of a comparison may be arithmetic with literals, of numbers that CEL computes as Python does: bounds keep whole
numbers within what a double holds, and doubles from growing infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lepton_plugins.routing.policy import HEADER
from lepton_selection.simple_tokens import Beyond, Token, text, tokens

#: Whole numbers up to here are doubles too.
EXACT = 2**53
#: Arithmetic is of features up to these, the greatest of their kind.
GREATEST = {"whole": 2**31, "double": 1e15}
_LIMIT = {"whole": EXACT, "double": 1e300}
_WORDS = {"true", "false", "null", "in"}
_RELATIONS = ("==", "!=", "<", "<=", ">", ">=")
_CALLS: dict[str, Callable[[str, str], str]] = {
    "startsWith": "{}.startswith({})".format,
    "endsWith": "{}.endswith({})".format,
    "contains": lambda value, literal: f"({literal} in {value})",
}


class Atom(NamedTuple):
    """A test of the values of features; feature number 2 stands in it as {2}."""

    features: tuple[str, ...]
    test: str


class Joined(NamedTuple):
    """Parts under `and`, `or`, or one part under `not`."""

    word: str
    parts: tuple[Node, ...]


Node = Atom | Joined


class _Value(NamedTuple):
    """What is tested: a literal, a feature's value itself (of no kind yet), or what is made of these."""

    features: tuple[str, ...]
    test: str
    kind: str | None
    bound: float = 0.0


def parsed(sources: Sequence[str], features: Sequence[str]) -> tuple[list[Node | None], dict[str, str]]:
    """The conditions, None for one that isn't simple, and the kind of the features that they test."""
    tests: list[Node | None] = []
    kinds: dict[str, str] = {}
    for source in sources:
        try:
            parser = _Parser(source, features, dict(kinds))
            tests.append(parser.parsed())
            kinds = parser.kinds
        except Beyond:
            tests.append(None)
    return tests, kinds


class _Parser:
    """CEL's own precedence: `!`, `*`, `+`, comparisons, `&&`, `||`."""

    def __init__(self, source: str, features: Sequence[str], kinds: dict[str, str]) -> None:
        self._tokens: list[Token] = [*tokens(source), ("end", "")]
        self._features = {feature: f"{{{index}}}" for index, feature in enumerate(features)}
        self.kinds = kinds
        self._at = 0

    def parsed(self) -> Node:
        found = self._any()
        if self._tokens[self._at][0] != "end":
            raise Beyond
        return found

    # --- true or false ---------------------------------------------------------------------

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
        if self._tokens[self._at][1] != "(":
            return self._comparison()
        at, kinds = self._at, dict(self.kinds)
        try:
            return self._comparison()  # Of a sum in brackets.
        except Beyond:
            self._at, self.kinds = at + 1, kinds
            return self._whole()

    def _whole(self) -> Node:
        found = self._any()
        self._must(")")
        return found

    def _comparison(self) -> Node:
        left = self._sum()
        if self._tokens[self._at] == ("name", "in") and left.kind is None:
            self._at += 1
            return self._listed(left)
        sign = self._tokens[self._at][1]
        if sign not in _RELATIONS:
            return self._truth(left)
        self._at += 1
        right = self._sum()
        kind = _comparable(left) or _comparable(right)
        if kind is None or not (left.features or right.features) or (kind == "truth" and sign not in ("==", "!=")):
            raise Beyond
        for side in (left, right):
            self._be(side, kind)
        return Atom(left.features + right.features, f"{left.test} {sign} {right.test}")

    def _truth(self, value: _Value) -> Node:
        """What is true or false by itself."""
        if not value.features:
            raise Beyond
        self._be(value, "truth")
        return Atom(value.features, value.test)

    def _listed(self, value: _Value) -> Node:
        self._must("[")
        literals = [self._literal()]
        while self._took(","):
            literals.append(self._literal())
        self._must("]")
        for literal in literals:
            self._be(value, _comparable(literal))
        return Atom(value.features, f"{value.test} in ({', '.join(literal.test for literal in literals)},)")

    # --- values ----------------------------------------------------------------------------

    def _sum(self) -> _Value:
        found = self._product()
        while (sign := self._tokens[self._at][1]) in ("+", "-"):
            self._at += 1
            found = self._computed(found, sign, self._product())
        return found

    def _product(self) -> _Value:
        found = self._factor()
        while (sign := self._tokens[self._at][1]) in ("*", "/"):
            self._at += 1
            found = self._computed(found, sign, self._factor())
        return found

    def _factor(self) -> _Value:
        if self._took("("):
            found = self._sum()
            self._must(")")
            return found
        kind, token = self._tokens[self._at]
        return self._literal() if kind in ("text", "number") or token in ("-", "true", "false") else self._value()

    def _computed(self, left: _Value, sign: str, right: _Value) -> _Value:
        """Both of one kind: CEL doesn't turn whole numbers into doubles."""
        kind = left.kind or right.kind
        if kind not in _LIMIT:
            raise Beyond
        left, right = (side if side.kind else side._replace(kind=kind, bound=GREATEST[kind]) for side in (left, right))
        if left.kind != right.kind:
            raise Beyond
        for feature in left.features + right.features:
            self._is(feature, kind)
        if sign == "/":
            if kind == "whole" or right.features or not right.bound:
                raise Beyond
            bound = left.bound / right.bound
        else:
            bound = left.bound * right.bound if sign == "*" else left.bound + right.bound
        if not bound <= _LIMIT[kind]:
            raise Beyond
        return _Value(left.features + right.features, f"({left.test} {sign} {right.test})", kind, bound)

    def _value(self) -> _Value:
        name = self._next("name")
        if name == "size" and self._took("("):
            feature = self._feature(self._next("name"))
            self._must(")")
            return self._size(feature)
        feature = self._feature(name)
        if not self._took("."):
            return _Value((feature,), self._features[feature], None)
        call = self._next("name")
        self._must("(")
        if call == "size":
            self._must(")")
            return self._size(feature)
        if call not in _CALLS:
            raise Beyond
        literal = text(self._next("text"))
        self._must(")")
        self._is(feature, "text")
        return _Value((feature,), _CALLS[call](self._features[feature], literal), "truth")

    def _size(self, feature: str) -> _Value:
        self._is(feature, "text")
        return _Value((feature,), f"len({self._features[feature]})", "number")

    def _feature(self, name: str) -> str:
        """The feature of a name, of `column["any name"]` or of `header["x-tenant"]`."""
        if name in ("column", "header") and self._took("["):
            key = self._next("text")[1:-1]
            self._must("]")
            name = HEADER + key if name == "header" else key
        elif name in _WORDS:
            raise Beyond
        if name not in self._features:
            raise Beyond
        return name

    def _literal(self) -> _Value:
        minus = "-" if self._took("-") else ""
        kind, token = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            value = float(minus + token) if set(token) & set(".eE") else int(minus + token)
            if not abs(value) <= EXACT:
                raise Beyond
            return _Value((), repr(value), "double" if isinstance(value, float) else "whole", abs(value))
        if minus or (kind != "text" and token not in ("true", "false")):
            raise Beyond
        return _Value((), text(token), "text") if kind == "text" else _Value((), token.title(), "truth")

    # --- kinds -----------------------------------------------------------------------------

    def _be(self, value: _Value, kind: str | None) -> None:
        """A comparison needs it to be of this kind."""
        if value.kind is None and kind is not None:
            self._is(value.features[0], kind)
        elif _comparable(value) != kind:
            raise Beyond

    def _is(self, feature: str, kind: str) -> None:
        known = self.kinds.get(feature, kind)
        if known != kind and {known, kind} not in ({"number", "whole"}, {"number", "double"}):
            raise Beyond
        self.kinds[feature] = known if kind == "number" else kind

    # --- tokens ----------------------------------------------------------------------------

    def _next(self, kind: str) -> str:
        found, token = self._tokens[self._at]
        if found != kind:
            raise Beyond
        self._at += 1
        return token

    def _took(self, sign: str) -> bool:
        if self._tokens[self._at] != ("sign", sign):
            return False
        self._at += 1
        return True

    def _must(self, sign: str) -> None:
        if not self._took(sign):
            raise Beyond


def _comparable(value: _Value) -> str | None:
    """What it can be compared with: numbers of all kinds with each other."""
    return "number" if value.kind in _LIMIT else value.kind
