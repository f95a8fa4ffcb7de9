"""What every error is, and the few that any part may raise."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from errno import EDQUOT, ENOSPC


class LeptonError(Exception):
    """Base of all errors that are meant for a user; anything else is a bug in Lepton."""

    code = "lepton_error"
    #: Process exit code of the CLI: 2 for usage and input, 1 where a check or gate said no.
    exit_code = 2
    #: HTTP status of the data plane.
    http_status = 400
    #: Whole seconds after which to try again, where somebody said so.
    retry_after: int | None = None


def is_away(error: BaseException) -> bool:
    """Whether what was asked can't answer now, whatever it was asked: it can't be reached, has too much to do, or
    takes too long. The message says all that is to be known.
    """
    return isinstance(error, LeptonError) and error.http_status in (503, 504)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: `" Did you mean 'x'?"`, or the known names, or an empty string."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    if not names:
        return ""
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f" Known: {shown}."


def _shown(names: Iterable[str], limit: int = 12) -> str:
    """The first names of many, or `nothing`."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:limit]) + (", …" if len(listed) > limit else "") if listed else "nothing"


class InvalidInput(LeptonError):
    """An argument, a file or a field that cannot be used as given; the message carries the facts."""

    code = "invalid_input"


class PathMissing(LeptonError):
    """A path that a user named does not exist."""

    code = "path_missing"

    def __init__(self, path: object, purpose: str) -> None:
        super().__init__(f"{purpose}: no such file or directory: {path}. Check the path and try again.")


class DiskFull(LeptonError):
    """A disk, or what this user may have of it, that is full."""

    code = "disk_full"

    def __init__(self, path: object, otherwise: str) -> None:
        super().__init__(f"No space is left on the disk of {path}. Free some there, or {otherwise}.")

    @staticmethod
    def told_by(error: BaseException) -> bool:
        """Whether that is what an error says, as the system's own or in the words of a library that caught it."""
        if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
            return True
        return any(f"[Errno {number}] {os.strerror(number)}" in str(error) for number in (ENOSPC, EDQUOT))


class PackageMissing(LeptonError):
    """A feature needs a package that isn't installed here."""

    code = "package_missing"

    def __init__(self, package: str, needed_for: str, install: str) -> None:
        super().__init__(f"{needed_for} needs the package {package!r}, which isn't installed here. Run: {install}")
        self.package = package
