"""Requests that are read in one turn of the event loop: those that are short are answered there, together; the others
in threads, those of one version together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lepton_plugins.errors import NotReady
from lepton_plugins.routing.routed import Routed
from lepton_plugins.serving.backlog import Backlog
from lepton_plugins.serving.busy_poll import BusyPoll, worth_polling
from lepton_plugins.serving.call import Answer, Asked, Call
from lepton_plugins.serving.failure import error_answer
from lepton_plugins.serving.lanes import Lanes
from lepton_plugins.serving.route import Route
from lepton_plugins.serving.served import Served, answer_of

if TYPE_CHECKING:
    from lepton_plugins.serving.app import ServingApp

#: Bytes of a body that are read on the event loop, even where its answer takes long: in about 0.2 ms.
_READ_HERE = 16 << 10


class Connection(Protocol):
    """Where a request came from."""

    def hold(self) -> None:
        """Nothing more is read until the answer is there."""
        ...

    def deliver(self, answer: Answer) -> None: ...

    def is_only(self) -> bool:
        """Whether no other connection is open."""
        ...


class DirectRequest(NamedTuple):
    """A request for a prediction that needs no task of its own, as far as its head says."""

    route: Route
    params: dict[str, str]
    headers: dict[bytes, bytes]


class Taken(NamedTuple):
    """A request that waits for the end of the event loop's turn; `kind` is that of its call, `short` its answer."""

    connection: Connection
    request: DirectRequest
    kind: object
    short: bool
    call: Call
    since: float


class Group(NamedTuple):
    """Requests that one call in a thread answers: one, or those that were `routed` to one arm."""

    taken: list[Taken]
    asked: list[Asked]
    routed: list[Routed]


class Turn:
    """Takes requests while the event loop reads, and answers them when it has read. Used on the event loop only."""

    def __init__(self, app: ServingApp, lanes: Lanes, backlog: Backlog) -> None:
        self._app = app
        self._limits = app.settings.limits
        self._metrics = app.serving.metrics
        self._lanes = lanes
        self._backlog = backlog
        seconds = app.settings.busy_poll
        self._poll = BusyPoll(worth_polling(app.settings.workers) if seconds is None else seconds)
        self._taken: list[Taken] = []
        self._aside: set[asyncio.Task[None]] = set()

    def take(self, connection: Connection, request: DirectRequest, body: bytes, *, alone: bool) -> bool:
        """Answer a whole request together with the others of this turn; False where it has to go the long way.

        `alone` says that nothing of a next request has been read with it.
        """
        kind = (request.route.path, len(body).bit_length())
        served = self._app.served
        if (
            served is None
            or served.router.waits
            or len(body) > self._limits.body
            or self._metrics.in_flight + len(self._taken) >= self._limits.in_flight
        ):
            return False
        short = self._lanes.is_short(kind)
        if not short:
            # Who degrades counts every call by itself.
            if not alone or len(body) > _READ_HERE or served.degrades:
                return False
            connection.hold()
        call = Call(request.params, request.headers, body)
        now = perf_counter()
        self._taken.append(Taken(connection, request, kind, short, call, now))
        self._poll.came(now)
        if served.degrades:
            call.since = self._backlog.since()  # The turn ends behind its answers.
        if alone and connection.is_only():
            self.end()  # There is nobody to wait for.
        elif len(self._taken) == 1:
            asyncio.get_running_loop().call_soon(self.end)
        return True

    def end(self) -> None:
        """Answer all that was taken, in its order; what takes long is on its way."""
        taken, self._taken = self._taken, []
        if not taken:
            return
        served = self._app.served
        if served is None:
            for one in taken:
                one.connection.deliver(error_answer(NotReady()))
            return
        if len(taken) == 1 and taken[0].short:
            self._answer_one(served, taken[0])
            return
        short = [one for one in taken if one.short]
        if len(short) < len(taken):
            self._send_aside(served, [one for one in taken if not one.short])
        if short:
            self._answer(served, short)

    def _answer_one(self, served: Served, one: Taken) -> None:
        start = perf_counter()
        try:
            if b"x-lepton-version" in one.call.headers:
                self._app.check_forcing(served, one.call)
            answer = one.request.route.run(served, one.call)
        except Exception as error:
            answer = error_answer(error)
        end = perf_counter()
        self._lanes.took_here(one.kind, end - start)
        self._deliver(served, one, answer, end)
        self._poll.answered(end)

    def _answer(self, served: Served, taken: Sequence[Taken]) -> None:
        start = perf_counter()
        read = [self._read(served, one) for one in taken]
        replies = iter(served.predict_together([one for one in read if isinstance(one, Asked)]))
        answers = [answer_of(one, next(replies)) if isinstance(one, Asked) else one for one in read]
        end = perf_counter()
        for kind in {one.kind for one in taken}:  # Once: a batch that the machine interrupted is one bad sign.
            self._lanes.took_here(kind, end - start, len(taken))
        for one, answer in zip(taken, answers, strict=True):
            self._deliver(served, one, answer, end)
        self._poll.answered(end)

    def _send_aside(self, served: Served, taken: Sequence[Taken]) -> None:
        groups: list[Group] = []
        open_: dict[object, Group] = {}
        for one in taken:
            read = self._read(served, one)
            if isinstance(read, Answer):
                self._deliver(served, one, read, perf_counter())
                continue
            try:
                routed = served.route(read)
            except Exception as error:
                self._deliver(served, one, error_answer(error), perf_counter())
                continue
            read.call.since = one.since
            if routed is None:
                groups.append(Group([one], [read], []))
                continue
            kind = routed.kind()
            group = open_.get(kind)
            if group is None or len(group.taken) >= served.router.room(routed.choice.arm):
                group = open_[kind] = Group([], [], [])
                groups.append(group)
            group.taken.append(one)
            group.asked.append(read)
            group.routed.append(routed)
        for group in groups:
            served.active += len(group.taken)
            self._metrics.in_flight += len(group.taken)
            task = asyncio.get_running_loop().create_task(self._answer_aside(served, group))
            self._aside.add(task)
            task.add_done_callback(self._aside.discard)

    async def _answer_aside(self, served: Served, group: Group) -> None:
        requests = len(group.taken)
        try:
            kinds = {one.kind for one in group.taken}
            answers = await self._lanes.aside(kinds, served.answer_together, group.asked, group.routed, requests)
        except Exception as error:
            answers = [error_answer(error)] * requests
        finally:
            served.active -= requests
            self._metrics.in_flight -= requests
        end = perf_counter()
        for one, answer in zip(group.taken, answers, strict=True):
            self._deliver(served, one, answer, end)

    def _read(self, served: Served, one: Taken) -> Asked | Answer:
        try:
            if b"x-lepton-version" in one.call.headers:
                self._app.check_forcing(served, one.call)
            read = one.request.route.answer(served, one.call)
        except Exception as error:
            return error_answer(error)
        assert isinstance(read, Asked | Answer)  # None of the direct requests streams.
        return read

    def _deliver(self, served: Served, one: Taken, answer: Answer, end: float) -> None:
        self._metrics.count_request(served.model, answer.status, end - one.since, answer.reply)
        one.connection.deliver(answer)
