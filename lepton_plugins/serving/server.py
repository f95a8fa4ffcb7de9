"""uvicorn with the data plane on a bound socket: one line when it is ready, a graceful end."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from lepton_plugins.serving.app import ServingApp
from lepton_plugins.serving.protocol import BoundedProtocol
from lepton_plugins.serving.signals import end_signals

#: How long requests in flight may take to end after SIGTERM.
DRAIN = 30
#: Seconds that another thread may keep the event loop waiting.
_SWITCH = 0.0005


def run_app(app: ServingApp, listener: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve on a bound socket in this process until it is told to end; what can't be loaded raises its error."""
    settings = app.settings
    # A thread that computes gives the interpreter's lock back only after this long: five milliseconds, the
    # default, is many times what a request takes.
    sys.setswitchinterval(_SWITCH)

    class Protocol(BoundedProtocol):
        header_limit = settings.limits.header
        time_limit = settings.limits.body_time
        serving = app

    config = uvicorn.Config(
        app,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=DRAIN,
        backlog=2048,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
    try:
        Server(config, app, listener, ready).run(sockets=[listener])
    except SystemExit:
        if app.failure is not None:
            raise app.failure from None
        raise


class Server(uvicorn.Server):
    """uvicorn's server that says when it is ready and returns after a signal instead of dying of it."""

    def __init__(
        self, config: uvicorn.Config, app: ServingApp, listener: socket.socket, ready: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self._app = app
        self._listener = listener
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        log = logging.getLogger("uvicorn.error")
        log.disabled = True  # A plan that can't be loaded is one clear error, not uvicorn's stack trace.
        try:
            await super().startup(sockets)
        finally:
            log.disabled = False
        served = self._app.served
        if served is not None:
            # What was loaded stays: the collector needn't look through all of it while requests wait.
            gc.collect()
            gc.freeze()
            gc.enable()
            address = self._address()
            decisions = self._app.settings.decisions or "not kept"
            plan = f"policy {served.plan.policy.kind}; plan {served.plan.digest.removeprefix('sha256:')[:12]}"
            versions = ", ".join(served.versions[:12]) + (", …" if len(served.versions) > 12 else "")
            if self._app.grpc is not None:
                address += f" and {self._app.grpc.address} (gRPC)"
            self._ready(
                f"lepton serves {served.model} (versions {versions}; {plan}) at {address} · decisions: {decisions}"
            )

    def _address(self) -> str:
        if self._listener.family == socket.AF_UNIX:
            return f"unix:{self._listener.getsockname()}"
        host, port = self._listener.getsockname()[:2]
        scheme = "https" if self.config.is_ssl else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with end_signals(self._asked_to_end):
            yield

    def _asked_to_end(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True
