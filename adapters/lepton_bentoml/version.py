"""One version of a plan as a BentoML service, for a router's service that depends on it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import bentoml
import numpy as np

from lepton_bentoml.models import BentoDeployment
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.routing.router import Router


class VersionService:
    """A BentoML service that runs the one version of a deployment directory. Its bento lists the version's model.

    Only services of the same bento ask it; what they send was checked by the router.
    """

    _deployment: ClassVar[BentoDeployment]

    def __init_subclass__(cls, *, deployment: Path | str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if deployment is None:
            return
        cls._deployment = BentoDeployment(deployment)  # Its links are needed as long as the class is.
        for name, model in cls._deployment.references.items():
            setattr(cls, name, model)

    def __init__(self) -> None:
        self.router = Router.load(self._deployment.path)

    def predict(self, columns: Columns) -> Any:
        """Answer columns, one value a row."""
        rows = len(next(iter(columns.values())))
        return self.router.predict_columns(columns, rows).values

    @bentoml.api  # type: ignore[untyped-decorator]
    async def answer(self, columns: dict[str, Any]) -> Any:
        """Answer columns, one value a row: lists, or arrays from another service of the bento."""
        return await asyncio.to_thread(self.predict, {name: np.asarray(column) for name, column in columns.items()})
