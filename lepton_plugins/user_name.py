"""The name of whoever runs this process, for records and the audit trail."""

from __future__ import annotations

import getpass


def user_name() -> str:
    """The user's name; "unknown" where there is none, as in a container that runs under a number alone."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
