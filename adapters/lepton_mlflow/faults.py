"""What MLflow raises, translated: the one place that knows MLflow's error codes and messages."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from lepton_plugins.errors import (
    LeptonError,
    RegistryFailed,
    RegistryForbidden,
    RegistryReadOnly,
    RegistryUnreachable,
)

_REFUSED = ("PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED", "UNAUTHENTICATED")
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")
_NOT_REACHED = re.compile(
    r"Max retries exceeded|Connection refused|Connection reset|Connection aborted|Name or service not known"
    r"|Failed to resolve|timed out|timeout exception|No route to host|unable to open database file"
    r"|could not connect|Can't connect",
    re.IGNORECASE,
)
_READ_ONLY = re.compile(
    r"readonly database|read-only (?:transaction|file system|database)|Permission denied:", re.IGNORECASE
)
#: Verbs of `Access.doing` that only read; everything else that is refused is a refused write.
_READING = ("read", "list", "find", "look", "download", "fetch", "answer")


def error_code(error: BaseException) -> str:
    """MLflow's error code ("RESOURCE_DOES_NOT_EXIST"), or an empty string."""
    return str(getattr(error, "error_code", ""))


def is_missing(error: BaseException) -> bool:
    """Whether MLflow says that what was asked for is not there."""
    return error_code(error) in _MISSING


def already_exists(error: BaseException) -> bool:
    """Whether a unique name was taken; a rename onto one is a plain SQL error in MLflow."""
    return error_code(error) in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS") or (
        error_code(error) == "BAD_REQUEST" and bool(re.search(r"unique|duplicate", str(error), re.IGNORECASE))
    )


def is_write_once_conflict(error: BaseException) -> bool:
    """Whether a run's param was already logged with another value."""
    return error_code(error) == "INVALID_PARAMETER_VALUE" and "param" in str(error).lower()


def without_password(uri: str) -> str:
    """A URI whose user information is left out."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def translate(error: Exception, uri: str, action: str, *, reached: bool = True) -> LeptonError:
    """The LeptonError for what MLflow, a database or an artifact store raised while doing `action`."""
    text = str(error)
    status = getattr(getattr(error, "response", None), "status_code", None)
    reading = action.startswith(_READING)
    if error_code(error) in _REFUSED or status in (401, 403) or _READ_ONLY.search(text):
        if reading or status == 401 or error_code(error) in ("CUSTOMER_UNAUTHORIZED", "UNAUTHENTICATED"):
            return RegistryForbidden(uri, action, _reason(text))
        return RegistryReadOnly(uri, action)
    if not reached or _NOT_REACHED.search(text):
        return RegistryUnreachable(uri, _reason(text))
    return RegistryFailed(uri, action, _reason(text))


def _reason(text: str) -> str:
    """The telling part of an error's text, in one line of at most 300 characters."""
    body = re.search(r"Response body: '(.*)'", text, re.DOTALL)
    lines = [line.strip() for line in (body[1] if body else text).splitlines()]
    # A heading such as "The following failures occurred …:" is followed by each file's name between #s, and the reason.
    telling = [line for line in lines if line and not (line.endswith(":") or line.startswith("####"))]
    line = next(iter(telling or filter(None, lines)), "no reason given")
    cause = re.search(r"Caused by (?:\w+\()?[\"']?(?:<[^>]*>: |\w+\([^)]*\): )?([^\"')]+)", line)
    if cause:
        line = cause[1].strip()
    line = line.rstrip(". ")
    line = re.sub(r"^(?:[A-Z_]+: |\(\w+(?:\.\w+)*\) )", "", line)
    return line if len(line) <= 300 else line[:299] + "…"
