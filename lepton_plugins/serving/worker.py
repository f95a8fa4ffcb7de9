"""One of the processes of `lepton serve --workers N`: `python -m lepton_plugins.serving.worker`.

Its standard input begins with a line that says what to serve, and stays open as long as its parent lives:
its end is the worker's. One line on its standard output says that it is ready, or why it can't be.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import msgspec

from lepton_plugins.errors import LeptonError
from lepton_plugins.serving.app import ServingApp
from lepton_plugins.serving.server import run_app
from lepton_plugins.serving.settings import ServingSettings


class Order(msgspec.Struct):
    """What a worker is told: `listener` is the number of the inherited socket."""

    source: str
    settings: str
    token: str | None
    listener: int
    counts: str
    worker: int


class Word(msgspec.Struct):
    """What a worker says of itself: that it is ready, or a reason why it isn't and its code."""

    ready: str | None = None
    error: str | None = None
    code: str = "internal_error"


def say(word: Word) -> None:
    """Tell the parent: a line of JSON on the standard output."""
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    # Ctrl-C in the terminal reaches all processes; the parent tells its workers to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="lepton: %(message)s", stream=sys.stderr)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    settings = ServingSettings.model_validate_json(order.settings)
    if order.token is not None:
        settings = settings.with_token(order.token)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    app = ServingApp(Path(order.source), settings, counts=Path(order.counts), worker=order.worker)
    try:
        run_app(app, socket.socket(fileno=order.listener), lambda line: say(Word(ready=line)))
    except LeptonError as error:
        say(Word(error=str(error), code=error.code))
        sys.exit(2)


def _end_with_parent() -> None:
    # Not through `sys.stdin`: its lock must be free when the interpreter ends.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
