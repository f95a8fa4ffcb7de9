"""Running the data plane with uvicorn: one line when it is ready, a graceful end."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from lepton_plugins.errors import AddressTaken, WorkersUnavailable
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.serving.app import ServingApp
from lepton_plugins.serving.follower import Follow, Follower
from lepton_plugins.serving.pointer import deployment_of, read_pointer
from lepton_plugins.serving.protocol import BoundedProtocol
from lepton_plugins.serving.settings import ServingSettings
from lepton_plugins.serving.signals import end_signals

#: How long requests in flight may take to end after SIGTERM.
_DRAIN = 30
#: Seconds that another thread may keep the event loop waiting.
_SWITCH = 0.0005
#: How long the first plan may take to arrive from the registry.
_FIRST_PLAN = 300.0


def serve(
    source: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    settings: ServingSettings | None = None,
    follow: Follow | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve `source` until SIGTERM or SIGINT; then requests in flight are answered and the log is flushed.

    `source` is a deployment directory, or with `follow` a state directory that a child process keeps up
    to date from the registry. `ready` gets the one line that says what is served where (default: printed
    on standard output). AddressTaken if the port is in use; a directory that can't be served raises its
    own error. Port 0 takes a free one; a `host` that begins with a slash is the path of a Unix socket,
    which its owner and group may use. With `settings.workers` several processes answer there.
    """
    settings = (settings or ServingSettings()).model_copy(update={"host": host})
    if settings.workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise WorkersUnavailable(settings.workers)
    listener = _listen(host, port)
    grpc_port: socket.socket | None = None
    follower = Follower(follow, source) if follow is not None else None
    try:
        if follower is not None:
            follower.start()
            if read_pointer(source) is None:
                follower.wait_for_plan(_FIRST_PLAN)
        if settings.workers == 1:
            run_app(ServingApp(source, settings), listener, ready or _print_line)
            return
        from lepton_plugins.serving.workers import Workers

        directory, _ = deployment_of(source)
        DeploymentDirectory.open(directory)  # What is wrong with it is told once, not by each worker.
        if settings.grpc_port is not None:
            grpc_port = _reserve(settings.host, settings.grpc_port)
            settings = settings.model_copy(update={"grpc_port": grpc_port.getsockname()[1]})
        gc.enable()  # Each worker loads for itself.
        Workers(source.absolute(), settings, listener, _DRAIN).run(ready or _print_line)
    finally:
        listener.close()
        if grpc_port is not None:
            grpc_port.close()
        if host.startswith("/"):
            Path(host).unlink(missing_ok=True)
        if follower is not None:
            follower.stop()


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything is loaded, so that a taken port is told at once."""
    if host.startswith("/"):
        return _listen_locally(host)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise AddressTaken(host, port, error.strerror or str(error)) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)  # Two servers that bind with SO_REUSEADDR only clash when they listen.
    except OSError as error:
        listener.close()
        raise AddressTaken(host, port, error.strerror or str(error)) from None
    listener.setblocking(False)
    return listener


def _reserve(host: str, port: int) -> socket.socket:
    """A port for gRPC, whose servers bind it themselves: held as long as the workers come and go."""
    host = "127.0.0.1" if host.startswith("/") else host
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)  # Fails where anybody listens, also one who would share.
            address = (host, probe.getsockname()[1])
        reserved = socket.socket(family, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(address)
    except OSError as error:
        reason = f"the gRPC port is in use or can't be bound ({error.strerror or error})"
        raise AddressTaken(host, port, reason, "--grpc-port") from None
    return reserved


def _listen_locally(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if stat.S_ISSOCK(_mode(path)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    Path(path).unlink()  # Left behind by a server that was killed.
        listener.bind(path)
        Path(path).chmod(0o660)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise AddressTaken(path, None, error.strerror or str(error)) from None
    listener.setblocking(False)
    return listener


def _mode(path: str) -> int:
    try:
        return Path(path).lstat().st_mode
    except FileNotFoundError:
        return 0


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
        timeout_graceful_shutdown=_DRAIN,
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


def _print_line(line: str) -> None:
    print(line, flush=True)
