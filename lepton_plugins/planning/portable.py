"""What a plan may say of where things are: it travels in artefacts, so nothing of the machine that made it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

#: Addresses that only one machine, or only the registry's own server, can read.
_OF_THIS_MACHINE = ("", "file", "models", "runs", "mlflow-artifacts", "sqlite", "memory")

#: An absolute path of two parts or more, on POSIX or Windows, bare or in a URI of the file system.
_END = r"[^\s'\"`:;,()<>|/\\]"
_PATH = re.compile(rf"(?<![\w.~:/\\-])(?:(?:file|sqlite):/*)?(?:[A-Za-z]:\\|~?/)(?:{_END}+[/\\])+({_END}*)")


def storage_address(source: str | None) -> str | None:
    """A version's address where it is one of shared storage without a password or a signature; else None."""
    try:
        parts = urlsplit(source or "")
        secret = parts.password is not None or parts.query
    except ValueError:
        return None
    if parts.scheme in _OF_THIS_MACHINE or not parts.netloc or secret:
        return None
    return source


def without_paths(text: str) -> str:
    """A sentence with each absolute path cut to its last part."""
    return _PATH.sub(lambda found: found[1] or "…", text)
