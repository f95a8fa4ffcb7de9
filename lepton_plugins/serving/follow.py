"""The process that follows a registry for a server: `python -m lepton_plugins.serving.follow`.

It asks for the plan in force, puts a new one beside the old ones and moves the pointer. The server
itself never talks to the registry. It lives as long as its standard input is open, that is as long as
its parent.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from lepton_plugins.atomic_file import write_atomically
from lepton_plugins.errors import LeptonError, PlanNotFound, PointerInvalid
from lepton_plugins.registry import Registry, open_registry
from lepton_plugins.routing.directory import pull
from lepton_plugins.serving.pointer import FOLLOWER, REVISIONS, is_held, read_pointer, write_pointer

logger = logging.getLogger("lepton_plugins.follow")

#: Revisions kept on disk, the current one among them: a rollback finds its files there.
_KEPT = 3


class Following:
    """One registry, one model, one state directory."""

    def __init__(self, registry_uri: str | None, model: str, state: Path) -> None:
        self._uri = registry_uri
        self._model = model
        self._state = state
        self._registry: Registry | None = None
        self._said = b""
        self._mute = False

    def look(self) -> str:
        """Bring the plan in force here, if it isn't; returns its digest. LeptonError if it can't be had."""
        if self._registry is None:
            self._registry = open_registry(self._uri)
        revision = self._registry.plan_in_force(self._model)
        if revision is None:
            raise PlanNotFound(self._model)
        named = f"{REVISIONS}/{revision.digest.removeprefix('sha256:')}"
        if self.pointed() != named:
            # Also where the directory is there: pull checks its digests and fetches what is missing.
            others = [path for path in (self._state / REVISIONS).iterdir() if path.is_dir()]
            pull(self._registry, self._model, self._state / named, revision, share=others)
            write_pointer(self._state, named)
            self._prune(named)
        return revision.digest

    def pointed(self) -> str | None:
        """The revision that is served from here; None too where another hand has written to the pointer: it is
        written anew.
        """
        try:
            return read_pointer(self._state)
        except PointerInvalid:
            return None

    def _prune(self, current: str) -> None:
        """Remove what is older than the few that are kept and loaded by no running server."""
        revisions = sorted((self._state / REVISIONS).iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        others = [path for path in revisions if f"{REVISIONS}/{path.name}" != current and path.is_dir()]
        for path in others[_KEPT - 1 :]:
            if not is_held(path):
                shutil.rmtree(path, ignore_errors=True)

    def tell(self, digest: str | None, error: Exception | None) -> bool:
        """Leave word for the server: what is in force, or why that isn't known. Its file's time is that of the look.

        Where that can't be written, False, no word is better than an old one; it is tried again with the next look.
        """
        told = None if error is None else {"code": _code(error), "error": _sentence(error)}
        said = json.dumps({"process": os.getpid(), "digest": digest, "error": told}).encode()
        try:
            if said == self._said:
                os.utime(self._state / FOLLOWER)
                return True
            write_atomically(self._state / FOLLOWER, said)
            self._said = said
            self._mute = False
            return True
        except FileNotFoundError:
            self._said = b""
        except OSError as failure:
            if not self._mute:
                logger.error("what is in force can't be told to the server: %s", failure.strerror or failure)
            self._said, self._mute = b"", True
            (self._state / FOLLOWER).unlink(missing_ok=True)
        return False


def follow(registry_uri: str | None, model: str, state: Path, interval: float, stop: threading.Event) -> None:
    """Look every `interval` seconds until `stop`; what fails is told, logged once and tried again."""
    (state / REVISIONS).mkdir(parents=True, exist_ok=True)
    following = Following(registry_uri, model, state)
    last: str | None = None
    while not stop.is_set():
        digest: str | None = None
        error: Exception | None = None
        try:
            digest = following.look()
        except Exception as caught:  # A registry can fail in any way; the next look may go well.
            error = caught
        heard = following.tell(digest, error)
        if error is not None and _sentence(error) != last:
            expected = isinstance(error, LeptonError)
            # A server that waits for its first plan tells by itself why none came, where it was told.
            if not (expected and heard and following.pointed() is None):
                logger.error("%s", _sentence(error), exc_info=None if expected else error)
        last = None if error is None else _sentence(error)
        stop.wait(interval)


def _code(error: Exception) -> str:
    return error.code if isinstance(error, LeptonError) else "internal_error"


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, LeptonError) else f"{type(error).__name__}: {error}"


def _end_with_parent(stop: threading.Event) -> None:
    """The parent holds our standard input open; its end is ours, however it came."""
    while os.read(0, 4096):  # Not through `sys.stdin`: its lock must be free when the interpreter ends.
        pass
    stop.set()
    time.sleep(5)  # A look that takes longer may be cut off: pulling is atomic.
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="lepton-follow", description=__doc__)
    parser.add_argument("--registry")
    parser.add_argument("--model", required=True)
    parser.add_argument("--state", required=True, type=Path)
    parser.add_argument("--interval", type=float, default=1.0)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="lepton follow: %(message)s", stream=sys.stderr)
    stop = threading.Event()
    threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()
    follow(given.registry, given.model, given.state, given.interval, stop)


if __name__ == "__main__":
    main()
