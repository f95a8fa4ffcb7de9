"""All or nothing over several calls: what was written is taken back when a later call fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

logger = logging.getLogger("lepton_mlflow")


class AllOrNothing:
    """`with AllOrNothing() as undo: …; undo.by(step)`: on any exception the steps run, last one first.

    A step that fails itself is logged, and the others go on: the first error is the one that is told.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def by(self, step: Callable[[], object]) -> None:
        """Register how to take back what was just written."""
        self._steps.append(step)

    def __enter__(self) -> AllOrNothing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        for step in reversed(self._steps):
            try:
                step()
            except Exception as failure:
                logger.warning("could not take back a write: %s", failure)
