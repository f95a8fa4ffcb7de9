"""What an evaluation tells whoever watches it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.version import ModelVersion

#: In the order in which a version goes through them. `cost` is left out where it isn't measured. The next
#: version is fetched while one is scored.
Stage = Literal["fetch", "load", "predict", "cost", "score", "save"]


class Progress(Protocol):
    """Called from the evaluating thread only; must return at once."""

    def begin(self, versions: Sequence[ModelVersion], rows: int) -> None:
        """Once, when the data is read: these versions will be evaluated on so many rows, in this order."""
        ...

    def stage(self, version: ModelVersion, stage: Stage, total: int = 0) -> None:
        """A version enters a stage; `total` is its number of steps (rows in `predict`), 0 if unknown."""
        ...

    def advance(self, version: ModelVersion, done: int) -> None:
        """So many steps of the present stage are done (absolute, not since the last call)."""
        ...

    def finish(self, version: ModelVersion, report: EvaluationReport) -> None:
        """A version is done; `report.failure` tells whether it could be evaluated."""
        ...


class Silent:
    """Progress that nobody watches."""

    def begin(self, versions: Sequence[ModelVersion], rows: int) -> None: ...

    def stage(self, version: ModelVersion, stage: Stage, total: int = 0) -> None: ...

    def advance(self, version: ModelVersion, done: int) -> None: ...

    def finish(self, version: ModelVersion, report: EvaluationReport) -> None: ...
