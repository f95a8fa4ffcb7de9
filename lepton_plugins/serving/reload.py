"""Watching a state directory's pointer and swapping routers: the old one serves until the new one is ready."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from lepton_plugins.errors import LeptonError
from lepton_plugins.serving.pointer import FOLLOWER, read_pointer
from lepton_plugins.serving.state import ReloadStatus

logger = logging.getLogger("lepton_plugins.serving")

#: A revision that failed to load is tried again after this long, in case memory or a disk was the reason.
_RETRY = 30.0


class PointerWatch:
    """Looks at the pointer every `interval` seconds and calls `swap` in a thread when it has moved.

    A revision that can't be loaded is reported in `status` and the log, once a trial; what serves goes on.
    """

    def __init__(
        self, state: Path, revision: str | None, interval: float, status: ReloadStatus, swap: Callable[[Path], object]
    ) -> None:
        self._state = state
        self._revision = revision
        self._interval = interval
        self._status = status
        self._swap = swap
        self._retry_at = 0.0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._look()
            except Exception:  # The watch outlives whatever one look meets.
                logger.exception("looking for a new plan failed")

    async def _look(self) -> None:
        self._status.follower = _follower(self._state)
        try:
            revision = read_pointer(self._state)
        except LeptonError as error:
            self._failed("current", error)
            return
        if revision is None:
            return
        if revision == self._revision:
            self._status.succeeded()  # Also where it came back from one that couldn't be loaded.
            return
        if revision == self._status.failed_revision and time.monotonic() < self._retry_at:
            return
        try:
            await asyncio.to_thread(self._swap, self._state / revision)
        except Exception as error:
            self._failed(revision, error)
            return
        self._revision = revision

    def _failed(self, revision: str, error: Exception) -> None:
        if revision == self._status.failed_revision and time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + _RETRY
        self._status.failures += 1
        self._status.failed_revision = revision
        code = error.code if isinstance(error, LeptonError) else "internal_error"
        # Only the log may name files; what clients see names the revision.
        said = str(error).replace(str(self._state), "STATE") if isinstance(error, LeptonError) else type(error).__name__
        self._status.error = {"code": code, "error": said}
        trace = None if isinstance(error, LeptonError) else error
        logger.error("plan %s can't be served, the old one stays: %s", revision, error, exc_info=trace)


def _follower(state: Path) -> dict[str, object] | None:
    try:
        content = json.loads((state / FOLLOWER).read_bytes())
        checked_at = (state / FOLLOWER).stat().st_mtime
    except (OSError, ValueError):
        return None
    return {**content, "checked_at": checked_at} if isinstance(content, dict) else None
