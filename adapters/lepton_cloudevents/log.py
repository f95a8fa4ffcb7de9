"""The decision log that `--decisions http://…` opens: whoever receives the events keeps them."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from time import time
from typing import Any

from lepton_cloudevents.event import decisions_event, feedback_event, namespace, source
from lepton_cloudevents.sender import Sender
from lepton_plugins.errors import FeedbackUndelivered
from lepton_plugins.records.decision import Feedback
from lepton_plugins.routing.decision_queue import DecisionQueue
from lepton_plugins.routing.store import DecisionBlock, FeedbackReceipt

#: Decisions that may wait to be sent.
MAX_ROWS = 200_000
#: Requests, and feedback, that are remembered; the oldest go first.
REMEMBERED = 500_000
#: Seconds that the receiver may take for one event.
TIMEOUT = 5.0


class CloudEventsDecisionLog:
    """Sends each request's decisions as one event; nothing is kept here.

    Feedback is taken for decisions that this process made and remembers, once each; of others it says that they are
    unknown: send their feedback to the replica that decided, or to the receiver itself.
    """

    def __init__(self, url: str, *, max_rows: int = MAX_ROWS, timeout: float = TIMEOUT) -> None:
        self.url = url
        self._max_rows = max_rows
        self._timeout = timeout
        self._start()

    def _start(self) -> None:
        self._lock = Lock()
        self._requests: OrderedDict[str, int] = OrderedDict()
        self._given: OrderedDict[str, None] = OrderedDict()
        self._sender = Sender(self.url, self._timeout)
        self._feedback = Sender(self.url, self._timeout)
        self._source, self._namespace = source(), namespace()
        send = _sending(self._sender, self._source, self._namespace)
        self._queue = DecisionQueue(send, self._max_rows, "lepton-events")
        self._finish = weakref.finalize(self, _finish, self._queue, self._sender)

    def _own(self) -> None:
        """Begin anew after a fork: the parent's threads aren't here."""
        if self._queue.pid != os.getpid():
            self._finish.detach()
            self._start()

    @property
    def dropped(self) -> int:
        """Decisions that the full queue, or the receiver, didn't take."""
        return self._queue.dropped

    def append(self, block: DecisionBlock) -> None:
        self._own()
        with self._lock:
            self._requests[block.request] = len(block)
            if len(self._requests) > REMEMBERED:
                self._requests.popitem(last=False)
        self._queue.append(block)

    def feedback(self, items: Sequence[Feedback]) -> FeedbackReceipt:
        """FeedbackUndelivered where the receiver doesn't take it: then it isn't remembered, and may be sent again."""
        self._own()
        stored = duplicates = 0
        unknown: list[str] = []
        for item in items:
            request, _, row = item.decision.rpartition("/")
            with self._lock:
                rows = self._requests.get(request, 0)
                if not (row.isascii() and row.isdigit() and int(row) < rows):
                    unknown.append(item.decision)
                    continue
                if item.decision in self._given:
                    duplicates += 1
                    continue
                self._given[item.decision] = None
                if len(self._given) > REMEMBERED:
                    self._given.popitem(last=False)
            if not self._feedback.send(*feedback_event(item, self._source, self._namespace, time())):
                with self._lock:
                    self._given.pop(item.decision, None)
                raise FeedbackUndelivered(stored, len(items))
            stored += 1
        return FeedbackReceipt(stored, duplicates, unknown)

    def flush(self) -> None:
        self._own()
        self._queue.drain()

    def close(self) -> None:
        self._own()
        self._finish()
        self._feedback.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.url, self._max_rows, self._timeout)


def _sending(sender: Sender, source: str, namespace: str) -> Any:
    def write(blocks: list[DecisionBlock]) -> int:
        """Send each block; how many decisions weren't taken."""
        return sum(len(block) for block in blocks if not sender.send(*decisions_event(block, source, namespace)))

    return write


def _finish(queue: DecisionQueue[DecisionBlock], sender: Sender) -> None:
    sender.end()
    queue.close()
    sender.close()


def _reopen(url: str, max_rows: int, timeout: float) -> CloudEventsDecisionLog:
    return CloudEventsDecisionLog(url, max_rows=max_rows, timeout=timeout)
