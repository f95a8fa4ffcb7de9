"""From an opened deployment directory to what a router runs: the policy and the arms' models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from lepton_plugins.plugins import plugins
from lepton_plugins.records.plan import Arm
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.routing.loading import load_version
from lepton_plugins.routing.model_cache import ModelCache, ModelKey
from lepton_plugins.routing.policy import SelectionPolicy


def load_policy(directory: DeploymentDirectory) -> SelectionPolicy:
    """The plan's policy, from its plugin; UnknownPlugin if none offers its kind."""
    plan = directory.plan
    factory = plugins().load("policy", plan.policy.kind)
    versions = [arm.version for arm in plan.arms]
    policy: SelectionPolicy = factory(plan.policy, directory.policy_files, versions, versions.index(plan.default))
    return policy


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
