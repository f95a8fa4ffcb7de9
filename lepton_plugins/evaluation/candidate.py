"""A version on its way into an evaluation: its files, what they are, and its inputs."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, ModelFailed, PackageMissing, RegistryUnreachable, TrustRequired
from lepton_plugins.evaluation.dataset import EvaluationData
from lepton_plugins.evaluation.features import model_inputs
from lepton_plugins.evaluation.options import EvaluationOptions
from lepton_plugins.evaluation.predict import within
from lepton_plugins.evaluation.version_process import VersionProcess
from lepton_plugins.plugins import plugins
from lepton_plugins.records.report import Failure
from lepton_plugins.records.signature import Signature
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.registry import Registry
from lepton_plugins.routing.backend import Inspection, LoadedModel
from lepton_plugins.routing.loading import find_backend, load_version

Stage = Literal["fetch", "load", "predict", "score"]


@dataclass(slots=True)
class Candidate:
    """Made by `prepare`: nothing of the version has run in this process yet. `close` removes its files."""

    version: ModelVersion
    folder: Path
    digest: str | None = None
    backend: str | None = None
    inspection: Inspection | None = None
    signature: Signature | None = None
    """What its files say."""
    given: Signature | None = None
    """The data's columns that `inputs` were made of: what a request must hold."""
    inputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    process: VersionProcess | None = None
    """Where cost is measured: the version is loaded there, and there only."""
    failure: Failure | None = None
    loaded: LoadedModel | None = None
    """A model that whoever evaluates has loaded already (MLflow's evaluator)."""

    def load(self, options: EvaluationOptions) -> LoadedModel:
        """Load the files: once, and not before their format was checked. Without cost, in this process."""
        if self.loaded is not None:
            return self.loaded
        number = self.version.version
        if self.process is not None:
            within(options.time_limit, number, "load", self.process.wait)
            return self.process
        return within(
            options.time_limit,
            number,
            "load",
            lambda: load_version(self.folder, number, backend=self.backend, trust=options.trust)[0],
        )

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def failure(stage: Stage, error: LeptonError) -> Failure:
    """What went wrong, for the report; version and stage stand beside it and aren't said again."""
    reason = error.reason if isinstance(error, ModelFailed) and error.action == stage else str(error)
    return Failure(stage=stage, code=error.code, reason=reason)


def prepare(
    registry: Registry,
    version: ModelVersion,
    folder: Path,
    data: EvaluationData,
    options: EvaluationOptions,
    roles: Collection[str],
    slice_columns: Collection[str],
) -> Candidate:
    """Fetch a version's files, look at them, check the leave to load them, make its inputs from the data.

    Where cost is measured, the version is being loaded by a process of its own when this returns. What
    goes wrong with the version stands in `failure`; RegistryUnreachable is raised: it concerns all.
    """
    candidate = Candidate(version, folder)
    stage: Stage = "fetch"
    try:
        folder.mkdir(parents=True)
        candidate.digest = registry.fetch(version, folder)
        stage = "load"
        _inspect(candidate, options)
        stage = "predict"
        candidate.inputs, candidate.given, candidate.notes = model_inputs(
            data.frame, candidate.signature, version.version, roles, slice_columns
        )
        if options.cost and candidate.backend is not None:
            offer = plugins().offer("backend", candidate.backend)
            candidate.process = VersionProcess(offer, folder, version.version)
    except RegistryUnreachable:
        candidate.close()
        raise
    except LeptonError as error:
        candidate.failure = failure(stage, error)
    return candidate


def _inspect(candidate: Candidate, options: EvaluationOptions) -> None:
    number = candidate.version.version
    backend, inspection = within(options.time_limit, number, "inspect", lambda: find_backend(candidate.folder))
    candidate.backend, candidate.inspection = backend, inspection
    candidate.signature = inspection.signature or candidate.version.signature
    if inspection.carries_code and options.trust is None:
        raise TrustRequired(number, inspection.format)
    if inspection.missing:
        install = inspection.install or f"pip install {' '.join(inspection.missing)}"
        raise PackageMissing(inspection.missing[0], f"Loading version {number} ({inspection.format})", install)
