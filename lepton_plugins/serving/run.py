"""Running the data plane: in this process or in several, with or without a registry that is followed."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from pathlib import Path

from lepton_plugins.errors import WorkersUnavailable
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.serving.app import ServingApp
from lepton_plugins.serving.follower import Follow, Follower
from lepton_plugins.serving.listening import listen, reserve
from lepton_plugins.serving.pointer import deployment_of, read_pointer
from lepton_plugins.serving.server import DRAIN, run_app
from lepton_plugins.serving.settings import ServingSettings
from lepton_plugins.serving.workers import Workers

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
    listener = listen(host, port)
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
        directory, _ = deployment_of(source)
        DeploymentDirectory.open(directory)  # What is wrong with it is told once, not by each worker.
        if settings.grpc_port is not None:
            grpc_port = reserve(settings.host, settings.grpc_port)
            settings = settings.model_copy(update={"grpc_port": grpc_port.getsockname()[1]})
        gc.enable()  # Each worker loads for itself.
        Workers(source.absolute(), settings, listener, DRAIN).run(ready or _print_line)
    finally:
        listener.close()
        if grpc_port is not None:
            grpc_port.close()
        if host.startswith("/"):
            Path(host).unlink(missing_ok=True)
        if follower is not None:
            follower.stop()


def _print_line(line: str) -> None:
    print(line, flush=True)
