"""From an opened deployment directory to what a router runs: the policy and the arms' models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError

from lepton_plugins.errors import DirectoryInvalid, LeptonError
from lepton_plugins.plugins import plugins, validation_lines
from lepton_plugins.records.plan import Arm, DeploymentPlan
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.routing.loading import load_version
from lepton_plugins.routing.model_cache import ModelCache, ModelKey
from lepton_plugins.routing.policy import SelectionPolicy


def policy_of(plan: DeploymentPlan, files: Mapping[str, bytes]) -> SelectionPolicy:
    """A plan's policy with its files, from its plugin. UnknownPlugin."""
    factory = plugins().load("policy", plan.policy.kind)
    versions = [arm.version for arm in plan.arms]
    policy: SelectionPolicy = factory(plan.policy, files, versions, versions.index(plan.default))
    return policy


def load_policy(directory: DeploymentDirectory) -> SelectionPolicy:
    """The plan's policy, from its plugin. UnknownPlugin; DirectoryInvalid where the plugin can't read its part."""
    plan = directory.plan
    try:
        return policy_of(plan, directory.policy_files)
    except LeptonError:
        raise
    except Exception as error:  # A plugin of another version, or a plan that no planner wrote.
        found = validation_lines(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        reason = f"the policy {plan.policy.kind} can't read its part of the plan: {found[:300]}"
        raise DirectoryInvalid(directory.path, reason) from error


def load_models(
    directory: DeploymentDirectory, keys: Sequence[ModelKey], cache: ModelCache, threads: int | None
) -> list[LoadedModel]:
    """The arms' models, side by side; if one fails, those loaded are given back."""

    def load(arm: Arm, key: ModelKey) -> LoadedModel:
        def from_files() -> LoadedModel:
            path = directory.check_model(arm)
            return load_version(path, arm.version, backend=arm.backend, trust=arm.trust, threads=threads)[0]

        return cache.acquire(key, from_files)

    arms = directory.plan.arms
    with ThreadPoolExecutor(min(len(arms), os.cpu_count() or 1)) as pool:
        futures = [pool.submit(load, arm, key) for arm, key in zip(arms, keys, strict=True)]
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        for future, key in zip(futures, keys, strict=True):
            if future.exception() is None:
                cache.release(key)
        raise errors[0]
    return [future.result() for future in futures]
