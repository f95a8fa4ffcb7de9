"""Requests that are read in one turn of the event loop: those that are short are answered there, together; the others
in threads, those of one version together: what comes while it is busy waits here, and holds no thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lepton_plugins.errors import NotReady
from lepton_plugins.routing.arm_queue import ArmQueue
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


class Read(NamedTuple):
    """A request whose inputs are read and, where it may be answered together with others, `routed`."""

    taken: Taken
    asked: Asked
    routed: Routed | None


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
        self._queues: dict[object, ArmQueue[Read]] = {}
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
        grown: dict[object, ArmQueue[Read]] = {}
        for one in taken:
            asked = self._read(served, one)
            if isinstance(asked, Answer):
                self._deliver(served, one, asked, perf_counter())
                continue
            try:
                routed = served.route(asked)
                self._lanes.admit(1)
            except Exception as error:
                self._deliver(served, one, error_answer(error), perf_counter())
                continue
            asked.call.since = one.since
            served.active += 1
            self._metrics.in_flight += 1
            read = Read(one, asked, routed)
            parallel = served.router.parallel(routed.choice.arm) if routed is not None else None
            if routed is None or parallel is None:
                self._start(served, [read])
                continue
            key: object = (served, routed.kind())
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = ArmQueue(parallel)
            queue.add(read)
            grown[key] = queue
        for key, queue in grown.items():
            self._start_next(served, key, queue)

    def _start_next(self, served: Served, key: object, queue: ArmQueue[Read]) -> None:
        """The calls that start now, with what waits for this arm."""
        while queue.starts:
            routed = queue.first.routed
            assert routed is not None
            self._start(served, queue.next(served.router.room(routed.choice.arm)), key, queue)
        if queue.idle:
            self._queues.pop(key, None)

    def _start(
        self, served: Served, group: list[Read], key: object = None, queue: ArmQueue[Read] | None = None
    ) -> None:
        task = asyncio.get_running_loop().create_task(self._answer_aside(served, group, key, queue))
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _answer_aside(self, served: Served, group: list[Read], key: object, queue: ArmQueue[Read] | None) -> None:
        requests = len(group)
        kinds = {one.taken.kind for one in group}
        asked = [one.asked for one in group]
        routed = [one.routed for one in group if one.routed is not None]
        try:
            answers = await self._lanes.run(kinds, served.answer_together, asked, routed, requests)
        except Exception as error:
            answers = [error_answer(error)] * requests
        finally:
            self._lanes.leave(requests)
            self._metrics.in_flight -= requests
            served.active -= requests
            if queue is not None:  # The next call starts ahead of these answers.
                queue.ended(requests)
                self._start_next(served, key, queue)
        end = perf_counter()
        for one, answer in zip(group, answers, strict=True):
            self._deliver(served, one.taken, answer, end)

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
