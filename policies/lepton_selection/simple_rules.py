"""Simple conditions without CEL's machinery: comparisons of columns with literals, as CEL decides them.

Most rules are such: `carrier == "UA" && distance > 500.0`. For values of the literals' own kinds there is nothing in
CEL that could decide otherwise; any other value (missing, of another kind, text beyond ASCII, whole numbers beyond
what a double holds) is left to CEL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

#: From the values of the features to the first rule that holds, NONE, or OPEN where CEL must decide.
FirstRule = Callable[..., int]
NONE, OPEN = -1, -2

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"\\\n]*"|'[^'\\\n]*')
    |(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\],]))""",
    re.VERBOSE,
)
_EXACT = 2**53
_WORDS = {"true", "false", "null", "in"}
_GUARDS = {
    "text": "type({0}) is str and {0}.isascii()",
    "number": f"(type({{0}}) is float and {{0}} == {{0}} or type({{0}}) is int and -{_EXACT} <= {{0}} <= {_EXACT})",
}


class _Beyond(Exception):
    """A condition that isn't simple."""


def first_rule(sources: Sequence[str], features: Sequence[str]) -> FirstRule | None:
    """One function for conditions in their order; None where one of them isn't simple."""
    places = {name: f"v{index}" for index, name in enumerate(features)}
    kinds: dict[str, str] = {}
    try:
        tests = [_Parser(source, places, kinds).parsed() for source in sources]
    except _Beyond:
        return None
    guards = " and ".join(_GUARDS[kind].format(places[name]) for name, kind in kinds.items())
    lines = [f"def first({', '.join(places.values())}):", f" if not ({guards}): return {OPEN}"]
    lines += [f" if {test}: return {rule}" for rule, test in enumerate(tests)]
    lines.append(f" return {NONE}")
    made: dict[str, FirstRule] = {}
    # Only names of ours and literals, written anew, stand in it.
    exec("\n".join(lines), {"__builtins__": {"type": type, "str": str, "float": float, "int": int}}, made)
    return made["first"]


class _Parser:
    """CEL's own precedence: `!`, comparisons, `&&`, `||`; on the left a column, on the right a literal."""

    def __init__(self, source: str, places: dict[str, str], kinds: dict[str, str]) -> None:
        self._tokens = [*_tokens(source), ("end", "")]
        self._places = places
        self._kinds = kinds
        self._at = 0

    def parsed(self) -> str:
        found = self._any()
        if self._tokens[self._at][0] != "end":
            raise _Beyond
        return found

    def _any(self) -> str:
        parts = [self._all()]
        while self._took("||"):
            parts.append(self._all())
        return f"({' or '.join(parts)})"

    def _all(self) -> str:
        parts = [self._one()]
        while self._took("&&"):
            parts.append(self._one())
        return f"({' and '.join(parts)})"

    def _one(self) -> str:
        if self._took("!"):
            self._must("(")
            found = f"(not {self._any()})"
            self._must(")")
            return found
        if self._took("("):
            found = self._any()
            self._must(")")
            return found
        name = self._next("name")
        if name not in self._places or name in _WORDS:
            raise _Beyond
        kind, sign = self._tokens[self._at]
        self._at += 1
        if (kind, sign) == ("name", "in"):
            self._must("[")
            literals = [self._literal(name)]
            while self._took(","):
                literals.append(self._literal(name))
            self._must("]")
            return f"{self._places[name]} in ({', '.join(literals)},)"
        if sign not in ("==", "!=", "<", "<=", ">", ">="):
            raise _Beyond
        literal = self._literal(name)
        if self._kinds[name] == "text" and sign not in ("==", "!="):
            raise _Beyond
        return f"{self._places[name]} {sign} {literal}"

    def _literal(self, name: str) -> str:
        """A literal that `name` is compared with, in Python; all of one name are of one kind."""
        kind, token = self._tokens[self._at]
        self._at += 1
        if kind not in ("text", "number") or self._kinds.setdefault(name, kind) != kind:
            raise _Beyond
        if kind == "text":
            return repr(token[1:-1])
        value = int(token) if re.fullmatch(r"-?[0-9]+", token) else float(token)
        if not abs(value) <= _EXACT:
            raise _Beyond
        return repr(value)

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


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    at, source = 0, source.rstrip()
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise _Beyond
        kind = str(match.lastgroup)
        yield kind, match[kind]
        at = match.end()
