"""MLflow kept quiet and quick while Lepton calls it: no stack traces, no progress bars, few retries.

MLflow logs SQL errors with their stack trace, prints run addresses to stdout and retries an unreachable
server for four minutes. It is told otherwise by environment variables and log handlers, both of the
process: they are changed for the time of a call only, and what the user set stays.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Read by MLflow at each request. Three retries with 0, 2 and 4 seconds between them.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

_lock = threading.Lock()
_callers = 0
_ours: list[str] = []
_calling = threading.local()


class _WhileCalling(logging.Filter):
    """Drops records of threads that are inside a call of Lepton's."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_calling, "depth", 0)


_FILTER = _WhileCalling()


@contextmanager
def quiet() -> Iterator[None]:
    """For the time of the block; reentrant, and safe from several threads."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _callers
    _calling.depth = getattr(_calling, "depth", 0) + 1
    with _lock:
        _callers += 1
        if _callers == 1:
            for name, value in _SETTINGS.items():
                if name not in os.environ:
                    os.environ[name] = value
                    _ours.append(name)
        for name in ("mlflow", "alembic"):
            for handler in logging.getLogger(name).handlers:
                handler.addFilter(_FILTER)  # Adding a filter twice is a no-op.
        # It has no handler of its own, and a line for each retry of each look.
        logging.getLogger("urllib3.connectionpool").addFilter(_FILTER)


def _leave() -> None:
    global _callers
    _calling.depth -= 1
    with _lock:
        _callers -= 1
        if _callers == 0:
            while _ours:
                os.environ.pop(_ours.pop(), None)
