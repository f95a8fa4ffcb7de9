"""A state directory: revisions side by side, and a pointer file that names the one to serve.

STATE/current               revisions/<hex of the plan's digest>
STATE/revisions/<hex>/      a deployment directory, never changed once it is named
STATE/follower.json         what the process that follows the registry last said of itself
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

from lepton_plugins.atomic_file import write_atomically
from lepton_plugins.errors import DirectoryInvalid, PathMissing, PointerInvalid

POINTER = "current"
REVISIONS = "revisions"
FOLLOWER = "follower.json"

_NAMED = re.compile(r"revisions/[0-9a-f]{64}")


def is_state(source: Path) -> bool:
    """Whether `source` is a state directory and not a deployment directory."""
    return (source / POINTER).is_file() or (source / REVISIONS).is_dir()


def read_pointer(state: Path) -> str | None:
    """The revision that the pointer names, relative to the state directory; None if there is no pointer."""
    try:
        named = (state / POINTER).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    if not _NAMED.fullmatch(named):
        raise PointerInvalid(named[:100])
    return named


def write_pointer(state: Path, revision: str) -> None:
    """Move the pointer: readers see the old name or the new one, never a part."""
    write_atomically(state / POINTER, f"{revision}\n".encode())


class Hold:
    """A revision that a server has loaded: while any process holds it, it isn't pruned.

    A shared lock on the directory, which ends with the process however that ends. Where the file system
    knows no locks nothing is held.
    """

    def __init__(self, directory: Path) -> None:
        self._descriptor: int | None = os.open(directory, os.O_RDONLY)
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def is_held(directory: Path) -> bool:
    """Whether a running server has loaded this revision."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def deployment_of(source: Path) -> tuple[Path, str | None]:
    """The deployment directory to serve, and the pointer's revision where `source` is a state directory."""
    if not source.is_dir():
        raise PathMissing(source, "The deployment directory")
    if not is_state(source):
        return source, None
    revision = read_pointer(source)
    if revision is None:
        raise DirectoryInvalid(source, "it has no pointer `current` yet")
    return source / revision, revision
