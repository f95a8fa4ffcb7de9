"""One route: a method, a path, and what is asked of its caller."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from lepton_plugins.serving.access import Permission
from lepton_plugins.serving.call import Answer, Asked, Call
from lepton_plugins.serving.served import Served
from lepton_plugins.serving.streaming import AskedStream

JSON_MEDIA = (b"application/json",)


@dataclass(frozen=True)
class Route:
    """A method and a path template.

    `long` marks those whose answer may take too long for the event loop, `predicts` those whose requests
    are counted and limited; they only read the request. `streams`: in parts.
    """

    method: str
    path: str
    permission: Permission
    answer: Callable[[Served, Call], Answer | Asked | AskedStream]
    long: bool = False
    predicts: bool = False
    streams: bool = False
    media: tuple[bytes, ...] = JSON_MEDIA

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path)))

    def run(self, served: Served, call: Call) -> Answer:
        """The whole way of a request, by itself."""
        answer = self.answer(served, call)
        assert not isinstance(answer, AskedStream)
        return (
            answer if isinstance(answer, Answer) else answer.answer(served.predict(call, answer.columns, answer.rows))
        )
