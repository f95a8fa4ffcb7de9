"""A finished folder takes the place of another: whoever looks there finds the old one whole, or the new one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

#: linux/fcntl.h, linux/fs.h
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def take_place(made: Path, place: Path) -> None:
    """Put the folder `made` in the place of `place`, beside it; what was there goes away. OSError: nothing changed.

    One step where the system can exchange two names (Linux, most file systems); else two renames.
    """
    if not place.exists():
        made.rename(place)
        return
    if _exchange(made, place):
        rmtree(made, ignore_errors=True)
        return
    old = Path(mkdtemp(prefix=f".{place.name}-old-", dir=place.parent))
    try:
        place.rename(old / "replaced")
        try:
            made.rename(place)
        except OSError:
            (old / "replaced").rename(place)
            raise
    finally:
        rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """renameat2(2); False where that can't be done here."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    done: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return done == 0
