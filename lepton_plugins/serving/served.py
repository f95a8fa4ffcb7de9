"""What is served at this moment: one router and all that is worked out from it once."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lepton_plugins.errors import Contradiction, ModelNotServed, VersionNotFound
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.routing.policy import HEADER
from lepton_plugins.routing.prediction import Prediction
from lepton_plugins.routing.routed import Routed
from lepton_plugins.routing.router import Router
from lepton_plugins.routing.slots import canonical_key
from lepton_plugins.routing.streaming import Cancellation
from lepton_plugins.serving.call import JSON_HEADERS, Answer, Asked, Call, Headers
from lepton_plugins.serving.counts import Key
from lepton_plugins.serving.failure import error_answer
from lepton_plugins.serving.pointer import Hold
from lepton_plugins.serving.reader import InputReader
from lepton_plugins.serving.reply import MIXED, Reply
from lepton_plugins.serving.state import ServerState

logger = logging.getLogger("lepton_plugins.serving")

_UNFIT_FOR_HEADER = re.compile(r"[^\x20-\x7e]")


class Served:
    """A loaded router with its input reader, names and headers. Immutable but for `active`.

    `active` counts the requests that use it: a replaced one is closed when none is left.
    """

    def __init__(self, router: Router, state: ServerState, hold: Hold | None = None) -> None:
        plan = router.plan
        self.router = router
        self._hold = hold
        self.state = state
        self.limits = state.settings.limits
        self.plan = plan
        self.model = plan.model
        self.versions = tuple(arm.version for arm in plan.arms)
        self.labels = {arm.label: arm.version for arm in reversed(plan.arms) if arm.label}
        self.reader = InputReader(plan.signature, self.limits.rows)
        policy = (b"x-lepton-policy", _UNFIT_FOR_HEADER.sub("?", plan.policy.kind).encode())
        self.headers: dict[str, Headers] = {
            version: [*JSON_HEADERS, (b"x-lepton-version", _UNFIT_FOR_HEADER.sub("?", version).encode()), policy]
            for version in (*self.versions, MIXED)
        }
        #: Headers that the policy reads, and the columns that it gets them as.
        self._header_columns = [
            (name.removeprefix(HEADER).encode(), name) for name in plan.signature.input_names if name.startswith(HEADER)
        ]
        self.sticky = plan.around.sticky.key if plan.around.sticky is not None else None
        #: Whether it matters how long a request has waited.
        self.degrades = plan.around.degrade is not None
        self.active = 0
        self.published: dict[Key, float] = {}
        """What the metrics know of the router's own counts."""

    def close(self) -> None:
        """Close the router; its revision may be pruned."""
        self.router.close()
        if self._hold is not None:
            self._hold.release()

    def check_model(self, name: str) -> None:
        if name != self.model and name not in self.state.settings.aliases:
            raise ModelNotServed(name[:100], self.model)

    def version_of(self, name: str) -> str:
        """The version that a client names by its number or label."""
        if name in self.versions:
            return name
        if name in self.labels:
            return self.labels[name]
        raise VersionNotFound(self.model, name[:100], self.versions)

    def predict(self, call: Call, columns: Columns, rows: int) -> Reply:
        """Route the rows, as the path and the headers ask."""
        version = self.wanted(call)
        columns = self._with_headers(call, columns, rows)
        keys = self._keys(call, columns, rows)
        # Whether the caller may force a version was checked with the route's permission.
        prediction = self.router.predict_columns(
            columns, rows, keys=keys, version=version, may_force=True, since=call.since
        )
        return Reply.of(prediction, self.plan.default, self.headers)

    def stream(
        self, call: Call, columns: Columns, request: Mapping[str, Any] | None, cancelled: Cancellation
    ) -> tuple[Reply, Iterator[Any]]:
        """Route one row whose answer comes in parts."""
        columns = self._with_headers(call, columns, 1)
        stream = self.router.stream(
            columns,
            keys=self._keys(call, columns, 1),
            version=self.wanted(call),
            body=request,
            cancelled=cancelled,
            may_force=True,
        )
        return Reply.of(Prediction(np.empty(1), stream.block, ()), self.plan.default, self.headers), stream.parts

    def wanted(self, call: Call) -> str | None:
        """The version that the path or a header asks for; Contradiction where they ask for two."""
        path = call.params.get("version")
        header = call.headers.get(b"x-lepton-version")
        if header is None:
            return self.version_of(path) if path else None
        named = header.decode("latin-1").strip()
        if not path or not named:
            return self.version_of(path or named) if path or named else None
        if (version := self.version_of(path)) != self.version_of(named):
            raise Contradiction("version", path[:100], "the request", named[:100], "the header x-lepton-version")
        return version

    def _keys(self, call: Call, columns: Columns, rows: int) -> list[str] | None:
        """The unit's key from the header, one a row; Contradiction where the plan's own column has another."""
        key = call.headers.get(b"x-lepton-key")
        if key is None:
            return None
        text = _text(key)
        if self.sticky is not None and self.sticky in columns:
            self.check_key(text, "the header x-lepton-key", columns[self.sticky].flat)
        return [text] * rows

    def check_key(self, key: object, where: str, values: Iterable[object]) -> None:
        """Contradiction unless a unit's key is that of the plan's own column, as far as both are there."""
        own = canonical_key(key)
        for value in values if own is not None else ():
            if (other := canonical_key(value)) is not None and other != own:
                column = f"the input {self.sticky!r}"
                raise Contradiction(f"{self.sticky}", str(key)[:100], where, str(value)[:100], column)

    def predict_together(self, asked: Sequence[Asked]) -> list[Reply | Exception]:
        """Route requests that came at the same time, each as `predict` does; those of one row each in one batch."""
        if len(asked) == 1:
            return [self._by_itself(asked[0])]
        replies: dict[int, Reply | Exception] = {}
        alike: dict[tuple[object, ...], list[int]] = {}
        for number, one in enumerate(asked):
            headers = one.call.headers
            if one.rows == 1 and b"x-lepton-version" not in headers and "version" not in one.call.params:
                kind = tuple([(name, column.dtype.char, column.shape) for name, column in one.columns.items()])
                alike.setdefault((b"x-lepton-key" in headers, *kind), []).append(number)
        for (keyed, *_), numbers in alike.items():
            if len(numbers) > 1 and self.router.merges:
                merged = self._merged([asked[number] for number in numbers], bool(keyed))
                replies.update(zip(numbers, merged, strict=False))
        return [replies[number] if number in replies else self._by_itself(one) for number, one in enumerate(asked)]

    def route(self, asked: Asked) -> Routed | None:
        """Where a request of one row goes; None where it can't be answered together with others."""
        if asked.rows > 1 or not self.router.merges or self.wanted(asked.call) is not None:
            return None
        columns = self._with_headers(asked.call, asked.columns, 1)
        return self.router.route(columns, keys=self._keys(asked.call, columns, 1))

    def answer_together(self, asked: Sequence[Asked], routed: Sequence[Routed]) -> list[Answer]:
        """Answer requests that go to one arm; none is `routed` where there is one that is asked by itself."""
        replies: Sequence[Reply | Exception] = ()
        if routed:
            replies = self._answered(routed)
        return [answer_of(one, reply) for one, reply in zip(asked, replies or map(self._by_itself, asked), strict=True)]

    def _answered(self, routed: Sequence[Routed]) -> Sequence[Reply | Exception]:
        try:
            prediction = self.router.answer(routed)
        except Exception as error:
            if len(routed) == 1:
                return [error]
            logger.debug("%d requests are answered one by one", len(routed), exc_info=True)
            return [reply for one in routed for reply in self._answered([one])]
        return Reply.each(prediction, self.plan.default, self.headers)

    def _by_itself(self, asked: Asked) -> Reply | Exception:
        try:
            return self.predict(asked.call, asked.columns, asked.rows)
        except Exception as error:
            return error

    def _merged(self, asked: Sequence[Asked], keyed: bool) -> Sequence[Reply]:
        """Nothing where one of them is in the way of the others: then each is asked by itself."""
        parts = [self._with_headers(one.call, one.columns, 1) for one in asked]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        try:
            keys = None
            if keyed:
                pairs = zip(asked, parts, strict=True)
                keys = [key for one, part in pairs for key in self._keys(one.call, part, 1) or ()]
            since = asked[0].call.since  # They were read in one turn.
            prediction = self.router.predict_columns(columns, len(asked), keys=keys, apart=True, since=since)
        except Exception:
            logger.debug("%d requests are answered one by one", len(asked), exc_info=True)
            return ()
        return Reply.each(prediction, self.plan.default, self.headers)

    def _with_headers(self, call: Call, columns: Columns, rows: int) -> Columns:
        """The columns, and the headers that the policy reads. A body can't stand in for one: a gateway may have
        checked it.
        """
        if not self._header_columns:
            return columns
        given = {}
        for header, name in self._header_columns:
            text = call.headers.get(header)
            given[name] = np.full(rows, None if text is None else _text(text), dtype=object)
        return {**columns, **given}


def answer_of(asked: Asked, reply: Reply | Exception) -> Answer:
    """The answer to a request, whatever became of it."""
    if isinstance(reply, Exception):
        return error_answer(reply)
    try:
        return asked.answer(reply)
    except Exception as error:
        return error_answer(error)


def _text(header: bytes) -> str:
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")
