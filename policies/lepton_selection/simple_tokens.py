"""The words and signs of simple conditions."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"\\\n]*"|'[^'\\\n]*')
    |(?P<number>(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>==|!=|<=|>=|&&|\|\||[<>!()\[\],.*/+-]))""",
    re.VERBOSE,
)

#: Its kind (text, number, name, sign, end), and itself.
Token = tuple[str, str]


class Beyond(Exception):
    """A condition that isn't simple."""


def tokens(source: str) -> Iterator[Token]:
    at, source = 0, source.rstrip()
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise Beyond
        kind = str(match.lastgroup)
        yield kind, match[kind]
        at = match.end()


def text(token: str) -> str:
    """A text literal in Python, as part of a format."""
    return repr(token[1:-1]).replace("{", "{{").replace("}", "}}")
