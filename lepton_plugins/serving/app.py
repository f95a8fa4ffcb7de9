"""The data plane as one ASGI application: outermost a Starlette, its hot path by hand."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from lepton_plugins.errors import (
    DirectoryInvalid,
    NotReady,
    Overloaded,
    PackageMissing,
    RequestInvalid,
)
from lepton_plugins.plugins import plugins
from lepton_plugins.routing.learning_state import open_state
from lepton_plugins.routing.router import Router
from lepton_plugins.serving.access import Access, Permission
from lepton_plugins.serving.backlog import Backlog
from lepton_plugins.serving.body import check_head, read_body
from lepton_plugins.serving.call import Answer, Call, headers_by_name, send_answer
from lepton_plugins.serving.exposition import COLLECTOR, publish, publish_router
from lepton_plugins.serving.failure import error_answer
from lepton_plugins.serving.lanes import Lanes
from lepton_plugins.serving.metrics import Metrics
from lepton_plugins.serving.paths import Paths
from lepton_plugins.serving.pointer import Hold, deployment_of
from lepton_plugins.serving.reload import PointerWatch
from lepton_plugins.serving.route import Route
from lepton_plugins.serving.served import Served
from lepton_plugins.serving.settings import ServingSettings
from lepton_plugins.serving.state import ServerState
from lepton_plugins.serving.streaming import AskedStream, Streams
from lepton_plugins.serving.turn import DirectRequest, Turn

if TYPE_CHECKING:
    from lepton_plugins.serving.grpc_service import GrpcService

logger = logging.getLogger("lepton_plugins.serving")

#: How long calls over gRPC may take to end when the server stops, in seconds.
_DRAIN_GRPC = 30.0


class ServingApp(Starlette):
    """Serves a deployment directory, or the revision that a state directory's pointer names.

    HTTP requests go straight to `answer`; Starlette keeps the lifespan, and runs the requests where a
    host (BentoML) has added middleware. `counts` is the directory in which several workers count; this one
    is number `worker`.
    """

    def __init__(self, source: Path, settings: ServingSettings, *, counts: Path | None = None, worker: int = 0) -> None:
        super().__init__(routes=[Mount("/", app=self.answer)], lifespan=lambda _: self._lifespan())
        self.source = source
        self.settings = settings
        self.serving = ServerState(settings, metrics=Metrics(counts, worker))
        self.served: Served | None = None
        self.failure: Exception | None = None
        """Why start-up failed, for whoever runs the server."""
        self.grpc: GrpcService | None = None
        self._access = Access(settings)
        self._lanes = Lanes(settings.call_threads, settings.limits.queued)
        self._streams = Streams(settings.call_threads, settings.limits.part_time)
        self.paths: Paths | None = None
        """The routes of what is served."""
        self._backlog = Backlog()
        self.turn = Turn(self, self._lanes, self._backlog)
        self._closing: set[asyncio.Task[Any]] = set()
        """What has to end before what is served is closed."""

    # --- life ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        tasks: list[asyncio.Task[None]] = []
        try:
            directory, revision = deployment_of(self.source)
            if self.settings.decisions is not None:
                offer = plugins().by_scheme("store", self.settings.decisions)
                self.serving.log = offer.load()(self.settings.decisions)
            if self.settings.learning is not None:
                self.serving.learned = open_state(self.settings.learning)
            self._serve(self._load(directory))
            if self.settings.grpc_port is not None:
                self.grpc = await self._start_grpc(self.settings.grpc_port)
        except Exception as error:
            self.failure = error
            await self._stop()
            raise
        if revision is not None:
            loop = asyncio.get_running_loop()
            pointer = PointerWatch(
                self.source, revision, self.settings.poll, self.serving.reload, partial(self._replace, loop)
            )
            tasks.append(asyncio.create_task(pointer.run()))
        if self.serving.metrics.shared:
            tasks.append(asyncio.create_task(self._publish()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await self._stop()

    async def _publish(self) -> None:
        """Keep what other workers show of this one up to date."""
        while self.served is not None:
            publish(self.serving, self.served)
            await asyncio.sleep(self.settings.poll)

    async def _start_grpc(self, port: int) -> GrpcService:
        if find_spec("grpc") is None:
            raise PackageMissing("grpc", "Serving gRPC", "pip install 'lepton-plugins[grpc]'")
        from lepton_plugins.serving.grpc_service import GrpcService

        service = GrpcService(self)
        await service.start(self.settings, port)
        return service

    async def _stop(self) -> None:
        """Close what was opened; requests have been drained by the server."""
        if self.grpc is not None:
            await self.grpc.stop(_DRAIN_GRPC)
        COLLECTOR.hide(self.serving)
        if self._closing:
            await asyncio.wait(self._closing, timeout=10)
        served, self.served = self.served, None
        if served is not None:
            publish(self.serving, served)
            self.serving.metrics.show({})
        await asyncio.to_thread(self._lanes.close)
        await asyncio.to_thread(self._streams.close)
        if served is not None:
            await asyncio.to_thread(served.close)
        if self.serving.log is not None:
            await asyncio.to_thread(_close_log, self.serving)
        if self.serving.learned is not None:
            await asyncio.to_thread(self.serving.learned.close)

    def _load(self, directory: Path) -> Served:
        settings = self.settings
        hold = Hold(directory)
        try:
            router = Router.load(
                directory,
                log=self.serving.log,
                log_context=settings.log_context,
                state=self.serving.learned,
                threads=settings.threads,
                memory=settings.model_memory,
                processes=settings.workers,
                call_threads=settings.call_threads,
            )
        except BaseException:
            hold.release()
            raise
        return Served(router, self.serving, hold)

    def _replace(self, loop: asyncio.AbstractEventLoop, directory: Path) -> None:
        """Load in this thread, swap on the loop's."""
        served = self._load(directory)
        if self.served is not None and served.model != self.served.model:
            served.close()
            raise DirectoryInvalid(
                directory,
                f"its plan is of {served.model!r}, and this server answers for {self.served.model!r}; each model's "
                f"server has a state directory of its own",
            )
        asyncio.run_coroutine_threadsafe(self._swap(served), loop).result()

    async def _swap(self, served: Served) -> None:
        old = self.served
        if old is None:  # Stopped while it was loading.
            await asyncio.to_thread(served.close)
            return
        self._serve(served)
        self.serving.reload.swaps += 1
        self.serving.reload.succeeded()
        self._lanes.forget()
        task = asyncio.create_task(_retire(self.serving, old))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _serve(self, served: Served) -> None:
        """From here on requests get this one; nothing is awaited in between, so none sees half of it."""
        self.paths = Paths(served.model)
        self.served = served
        self.serving.reload.loaded_at = time.time()
        COLLECTOR.show(self.serving, served)

    # --- requests --------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.user_middleware:
            await self.answer(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Match, authorise, read, run, send. Nothing but an answer leaves it."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        start = perf_counter()
        served, paths = self.served, self.paths
        if served is None or paths is None:
            await send_answer(send, error_answer(NotReady()))
            return
        counts = self.serving.metrics
        route: Route | None = None
        served.active += 1
        try:
            try:
                route, params = paths.match(scope)
                if route.predicts:
                    counts.in_flight += 1
                answer = await self._run(served, route, params, headers_by_name(scope["headers"]), receive, send)
            except Exception as error:
                answer = error_answer(error)
            if not answer.sent:
                await send_answer(send, answer)
        finally:
            served.active -= 1
            if route is not None and route.predicts:
                counts.in_flight -= 1
        if route is not None and route.predicts:
            counts.count_request(served.model, answer.status, perf_counter() - start, answer.reply)

    async def _run(
        self,
        served: Served,
        route: Route,
        params: dict[str, str],
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> Answer:
        """Authorise, read, answer: on the event loop where that is short, else in a thread."""
        if route.permission is not Permission.PUBLIC:
            self._access.check(route.permission, headers, served.plan.around.guard)
        elif b"x-lepton-version" in headers and route.predicts:
            self._access.check(Permission.FORCE, headers, served.plan.around.guard)
        if route.predicts:
            self._check_load()
        body = b""
        if route.method == "POST":
            check_head(route, headers, self.settings.limits.body)
            body = await read_body(receive, self.settings.limits.body)
        call = Call(params, headers, body)
        if route.streams:
            asked = route.answer(served, call)
            assert isinstance(asked, AskedStream)
            return await self._streams.answer(served, asked, receive, send)
        # Bodies of about a size take about as long.
        kind = (route.path, len(body).bit_length())
        here = not route.long or (self._lanes.is_short(kind) and not served.router.waits)
        if served.degrades:
            call.since = self._backlog.since(aside=not here)
        if here:
            return self._lanes.here(kind, route.run, served, call)
        return await self._lanes.aside([kind], route.run, served, call)

    def is_direct(self, url: bytes) -> bool:
        """Whether a path as it comes is that of a prediction which anyone may ask for."""
        return self.paths is not None and url in self.paths.direct

    def direct_request(self, url: bytes, headers: list[tuple[bytes, bytes]]) -> DirectRequest | None:
        """What is known from the head of a request for one of the direct paths; None where it must go the long way."""
        match = self.paths.direct.get(url) if self.paths is not None else None
        if match is None:
            return None
        try:
            known = headers_by_name(headers)
            check_head(match[0], known, self.settings.limits.body)
        except RequestInvalid:
            return None
        return DirectRequest(match[0], match[1], known)

    async def respond(self, kind: object, predict: Callable[[Served, Call], Answer], call: Call) -> Answer:
        """Answer a prediction that came another way than HTTP: the same checks, lanes and counts.

        Calls of a `kind` take about as long. One that is in a thread goes on where its caller goes away, as over
        HTTP: it is decided, and counts.
        """
        served = self.served
        if served is not None and self._lanes.is_short(kind) and not served.router.waits:
            return await self._respond(kind, predict, call)
        task = asyncio.create_task(self._respond(kind, predict, call))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return await asyncio.shield(task)

    async def _respond(self, kind: object, predict: Callable[[Served, Call], Answer], call: Call) -> Answer:
        start = perf_counter()
        served = self.served
        if served is None:
            return error_answer(NotReady())
        counts = self.serving.metrics
        served.active += 1
        counts.in_flight += 1
        try:
            self.check_forcing(served, call)
            self._check_load()
            here = self._lanes.is_short(kind) and not served.router.waits
            if served.degrades:
                call.since = self._backlog.since(aside=not here)
            if here:
                answer = self._lanes.here(kind, predict, served, call)
            else:
                answer = await self._lanes.aside([kind], predict, served, call)
        except Exception as error:
            answer = error_answer(error)
        finally:
            served.active -= 1
            counts.in_flight -= 1
        counts.count_request(served.model, answer.status, perf_counter() - start, answer.reply)
        return answer

    def check_forcing(self, served: Served, call: Call) -> None:
        """Whether the caller may name a version, where it does."""
        if "version" in call.params or b"x-lepton-version" in call.headers:
            self._access.check(Permission.FORCE, call.headers, served.plan.around.guard)

    def _check_load(self) -> None:
        if self.serving.metrics.in_flight > self.settings.limits.in_flight:
            raise Overloaded(self.settings.limits.in_flight)


async def _retire(state: ServerState, served: Served) -> None:
    """Close a replaced router when its last request is answered."""
    while served.active:
        await asyncio.sleep(0.05)
    publish_router(state, served)
    await asyncio.to_thread(served.close)


def _close_log(state: ServerState) -> None:
    if state.log is not None:
        state.log.flush()
        state.log.close()


def create_app(source: Path, settings: ServingSettings | None = None) -> Starlette:
    """The application that serves `source`; its lifespan loads the router and closes it again.

    A deployment directory that can't be used fails the lifespan's start-up with a LeptonError.
    """
    return ServingApp(Path(source), settings or ServingSettings())
