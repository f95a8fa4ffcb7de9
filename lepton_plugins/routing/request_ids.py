"""Ids for requests that bring none."""

from __future__ import annotations

import os
from itertools import count


class RequestIds:
    """A random part for this process, and a number."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            # A forked worker must not go on with its parent's numbers.
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._numbers = count()

    def new(self) -> str:
        return f"{self._prefix}{next(self._numbers):x}"


REQUEST_IDS = RequestIds()
