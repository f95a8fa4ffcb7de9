"""What a target is: something that a deployment directory is rendered for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from lepton_plugins.records.plan import DeploymentPlan


class Target(Protocol):
    """Renders a deployment directory. Two runs on the same input give the same bytes."""

    #: The target's own options, strict. Each field is a flag of `lepton generate --target NAME`, its description
    #: the flag's help; `--option field=value` says the same.
    Options: type[BaseModel]

    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        """Write the target's files below `to` (empty); returns them, relative, sorted."""
        ...

    def missing(self) -> Mapping[str, str]:
        """What isn't installed here that using the result needs: package → how to install it."""
        ...


@runtime_checkable
class FinishingTarget(Target, Protocol):
    """A target that has something to do with the files, or to tell of them, once all are written."""

    def finish(self, plan: DeploymentPlan, rendered: Path, to: Path, options: BaseModel) -> Mapping[str, str]:
        """Called after `render`; what it tells, such as `next` → the command to go on with.

        The files lie in `rendered` and come to `to`, where they were asked for, as the last step of all; where it
        raises they don't.
        """
        ...
