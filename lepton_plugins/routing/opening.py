"""From an opened deployment directory to what a router runs: the policy and the arms' models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from pydantic import ValidationError

from lepton_plugins.canonical import digest_tree
from lepton_plugins.errors import DirectoryInvalid, LeptonError
from lepton_plugins.plugins import plugins, validation_lines
from lepton_plugins.records.plan import Arm, DeploymentPlan
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.cores import available_cores, whole_cores
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


def threads_of(arm: Arm, processes: int) -> int | None:
    """Threads for one call of an arm: the whole cores that the plan gives a replica of it, as far as they are here.

    So many `processes` share them. None below two: the backend's own choice.
    """
    given = (arm.resources.cpu or 0.0) / arm.resources.replicas
    cores = int(min(given, available_cores()) / processes)
    return cores if cores > 1 else None


def gpu_of(arms: Sequence[Arm], arm: Arm) -> bool | None:
    """Whether the plan gives an arm a GPU; None where it gives none of its arms one: backends take what they find."""
    if not any(other.resources.gpu for other in arms):
        return None
    return bool(arm.resources.gpu)


class Models:
    """The models of a deployment directory's arms, in a cache that others share. `threads`, `processes` as in
    `Router.load`."""

    def __init__(
        self, directory: DeploymentDirectory, cache: ModelCache, threads: int | None, processes: int = 1
    ) -> None:
        self._directory = directory
        self._cache = cache
        self._threads = {arm.version: threads or threads_of(arm, processes) for arm in directory.plan.arms}

    def load(self, arm: Arm) -> LoadedModel:
        """One model, its digest checked; to be given back by `release`."""

        threads = self._threads[arm.version]

        def from_files() -> LoadedModel:
            service = self._directory.service_path(arm)
            if service is not None:
                return load_version(service, arm.version, threads=threads)[0]
            path = self._directory.check_model(arm)
            return load_version(
                path, arm.version, backend=arm.backend, trust=arm.trust, threads=threads, gpu=self._gpu(arm)
            )[0]

        return self._cache.acquire(self._key(arm), from_files)

    def load_all(self, arms: Sequence[Arm]) -> list[LoadedModel]:
        """Side by side; if one fails, those loaded are given back."""
        with ThreadPoolExecutor(min(len(arms), whole_cores())) as pool:
            futures = [pool.submit(copy_context().run, self.load, arm) for arm in arms]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            for future, arm in zip(futures, arms, strict=True):
                if future.exception() is None:
                    self.release(arm)
            raise errors[0]
        return [future.result() for future in futures]

    def release(self, arm: Arm) -> None:
        self._cache.release(self._key(arm))

    def size(self, arm: Arm) -> int:
        """Bytes of an arm's files: about what it takes in memory."""
        if self._directory.service_path(arm) is not None:
            return 0
        path = self._directory.model_path(arm)
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())

    def _gpu(self, arm: Arm) -> bool | None:
        return gpu_of(self._directory.plan.arms, arm)

    def _key(self, arm: Arm) -> ModelKey:
        service = self._directory.service_path(arm)
        if service is not None:
            return ModelKey(digest_tree(service), "", None, self._threads[arm.version])
        return ModelKey(arm.artifact_digest, arm.backend, arm.trust, self._threads[arm.version], self._gpu(arm))
