"""Taking turns: one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(file: Path) -> Iterator[None]:
    """Alone among the processes that hold this file; where there are no locks (Windows) one should use it at a time."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with file.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
