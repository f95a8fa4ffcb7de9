"""Replaying a decision log: under its own plans to verify it, under another to tell what that would have earned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lepton_plugins.errors import DirectoryInvalid, LeptonError
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.replay.logged import read_log
from lepton_plugins.replay.off_policy import off_policy
from lepton_plugins.replay.report import OffPolicy
from lepton_plugins.replay.verification import FindPlan, Verification, verify
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.routing.store import LogReader, open_reader

if TYPE_CHECKING:
    from lepton_plugins.registry import Registry

Plan = tuple[DeploymentPlan, Mapping[str, bytes]]


def replay_as(log: str | Path | LogReader, plan: DeploymentPlan, files: Mapping[str, bytes]) -> OffPolicy:
    """What `plan`, with its policy's files, would have earned on a log's decisions. Raises as `off_policy` does."""
    return off_policy(read_log(_reader(log)), plan, files)


def replay(log: str | Path | LogReader, find: FindPlan) -> Verification:
    """Make a log's decisions once more, each under the plan that made it."""
    return verify(_reader(log).blocks(), find)


def plan_in(directory: Path) -> Plan:
    """The plan of a deployment directory. DirectoryInvalid."""
    opened = DeploymentDirectory.open(directory)
    return opened.plan, opened.policy_files


def plans_of(registry: Registry | None, directory: Path | None = None) -> FindPlan:
    """Finds plans in a deployment directory, then among all revisions of the model in a registry."""
    own = None if directory is None else plan_in(directory)

    def find(model: str, digest: str) -> Plan | None:
        if own is not None and own[0].digest == digest:
            return own
        if registry is None:
            return None
        try:
            stored = [revision for revision in registry.list_plans(model) if revision.digest == digest]
            return registry.get_plan(stored[0]) if stored else None
        except DirectoryInvalid:
            raise
        except LeptonError:
            return None  # No such model here.

    return find


def _reader(log: str | Path | LogReader) -> LogReader:
    return open_reader(str(log)) if isinstance(log, str | Path) else log
