"""Answers that come in parts, as language models give them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

from lepton_plugins.routing.store import DecisionBlock


class Cancellation:
    """Ends a stream from another thread than the one that reads it."""

    def __init__(self) -> None:
        self._stop: Callable[[], object] | None = None
        self._lock = Lock()
        self.done = False
        """Whether nobody wants the rest."""

    def set(self) -> None:
        with self._lock:
            self.done = True
            stop = self._stop
        if stop is not None:
            with suppress(OSError):
                stop()

    def watch(self, stop: Callable[[], object]) -> None:
        """Call `stop` when the stream is cancelled: it ends a wait, such as one for a socket."""
        with self._lock:
            self._stop = stop
            done = self.done
        if done:
            self.set()


@dataclass(slots=True)
class Stream:
    """One row's answer in parts, the first of which is there; `block` has the decision. Close `parts` when done."""

    block: DecisionBlock
    parts: Iterator[Any]


def begun(parts: Iterator[Any]) -> Iterator[Any] | None:
    """The same parts, once the first has come; None where there is none."""
    for first in parts:
        return _after(first, parts)
    return None


def _after(first: Any, parts: Iterator[Any]) -> Iterator[Any]:
    try:
        yield first
        yield from parts
    finally:
        close(parts)


def close(parts: Iterator[Any]) -> None:
    """End an iterator that isn't read to its end, where it is a generator."""
    end = getattr(parts, "close", None)
    if end is not None:
        end()
