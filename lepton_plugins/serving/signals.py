"""Signals that ask a server to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def end_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """A block in which SIGINT and SIGTERM call `handler`; outside the main thread, which alone may, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
