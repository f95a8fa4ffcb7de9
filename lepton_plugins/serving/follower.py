"""The server's side of the process that follows the registry: start it, keep it running, end it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from lepton_plugins.errors import FollowerFailed
from lepton_plugins.serving.pointer import FOLLOWER, read_pointer

logger = logging.getLogger("lepton_plugins.serving")

_SHORTEST, _LONGEST = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Follow:
    """What is followed: a model in a registry (None: the default one), asked every `interval` seconds."""

    model: str
    registry: str | None = None
    interval: float = 1.0


class Follower:
    """Keeps the following process alive; one that ends is started again, later each time."""

    def __init__(self, follow: Follow, state: Path) -> None:
        self._follow = follow
        self._state = state
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="lepton-follower", daemon=True)

    def start(self) -> None:
        self._state.mkdir(parents=True, exist_ok=True)
        (self._state / FOLLOWER).unlink(missing_ok=True)
        self._thread.start()

    def wait_for_plan(self, seconds: float) -> None:
        """Returns when the pointer names a plan; FollowerFailed with the reason if none comes."""
        deadline = time.monotonic() + seconds
        reason = f"nothing came within {seconds:g} s"
        while time.monotonic() < deadline:
            if read_pointer(self._state) is not None:
                return
            told = self._told()
            if told is not None:
                raise FollowerFailed(self._follow.model, told)
            if self._ended.wait(0.05):
                break
        raise FollowerFailed(self._follow.model, reason)

    def _told(self) -> str | None:
        try:
            error = json.loads((self._state / FOLLOWER).read_bytes()).get("error")
        except (OSError, ValueError, AttributeError):
            return None
        return str(error.get("error")) if isinstance(error, dict) else None

    def stop(self) -> None:
        self._ended.set()
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._thread.join(5)

    def _supervise(self) -> None:
        pause = _SHORTEST
        while not self._ended.is_set():
            started = time.monotonic()
            self._process = self._spawn()
            code = self._process.wait()
            if self._ended.is_set():
                return
            if time.monotonic() - started > _LONGEST:
                pause = _SHORTEST
            logger.error("the process that follows the registry ended (%s); it starts again in %g s", code, pause)
            self._ended.wait(pause)
            pause = min(pause * 2, _LONGEST)

    def _spawn(self) -> subprocess.Popen[bytes]:
        follow = self._follow
        command = [sys.executable, "-m", "lepton_plugins.serving.follow", "--model", follow.model]
        command += ["--state", str(self._state), "--interval", str(follow.interval)]
        if follow.registry is not None:
            command += ["--registry", follow.registry]
        # A session of its own: Ctrl-C in the terminal is for the server, which then closes our pipe.
        return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
