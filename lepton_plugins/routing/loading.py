"""From a version's files to a loaded model: which backend runs them, and whether it may."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from lepton_plugins.errors import FormatUnknown, LeptonError, ModelFailed, PackageMissing, TrustRequired
from lepton_plugins.plugins import plugins
from lepton_plugins.records.plan import Arm
from lepton_plugins.records.plugin import BackendOffer
from lepton_plugins.routing.backend import Backend, Inspection, LoadedModel, PlacingBackend
from lepton_plugins.routing.directory import DeploymentDirectory


def find_backend(path: Path) -> tuple[str, Inspection]:
    """The first backend, by priority, that runs the files at `path`, and what it says of them.

    No loader is imported. A backend whose own package is missing is passed over where another one
    can run the files. Nobody can: FormatUnknown, or PackageMissing where a package would help.
    """
    missing: PackageMissing | None = None
    found: list[tuple[str, Inspection]] = []
    offers = [offer for offer in plugins().offers("backend").values() if isinstance(offer, BackendOffer)]
    for offer in sorted(offers, key=lambda offer: (-offer.priority, offer.name)):
        try:
            backend: Backend = offer.load()()
        except PackageMissing as error:
            missing = missing or error
            continue
        inspection = backend.inspect(path)
        if inspection is not None and not inspection.missing:
            return offer.name, inspection
        if inspection is not None:
            found.append((offer.name, inspection))
    if found:
        return found[0]
    if missing is not None:
        raise missing
    raise FormatUnknown(path)


def backend_of(directory: DeploymentDirectory, arm: Arm) -> str:
    """What runs an arm of a deployment directory: the plan's backend, or what asks the service that runs it."""
    service = directory.service_path(arm)
    return arm.backend if service is None else find_backend(service)[0]


def load_version(
    path: Path,
    version: str,
    *,
    backend: str | None = None,
    trust: Literal["pickle"] | None = None,
    threads: int | None = None,
    gpu: bool | None = None,
) -> tuple[LoadedModel, str, Inspection]:
    """Load the files at `path`; returns the model, its backend's name and the inspection.

    `gpu` says whether a plan gives the version one; a backend that doesn't place versions isn't told.

    TrustRequired before any loader is imported where the format carries code and `trust` isn't given;
    PackageMissing where the framework isn't installed; ModelFailed for whatever the loader raises.
    """
    if backend is None:
        backend, inspection = find_backend(path)
    else:
        looked: Inspection | None = plugins().load("backend", backend)().inspect(path)
        if looked is None:
            raise FormatUnknown(path, backend)
        inspection = looked
    if inspection.carries_code and trust is None:
        raise TrustRequired(version, inspection.format)
    if inspection.missing:
        install = inspection.install or f"pip install {' '.join(inspection.missing)}"
        raise PackageMissing(inspection.missing[0], f"Loading version {version} ({inspection.format})", install)
    runner: Backend = plugins().load("backend", backend)()
    try:
        if gpu is not None and getattr(runner, "places", False):
            return cast(PlacingBackend, runner).load(path, threads=threads, gpu=gpu), backend, inspection
        return runner.load(path, threads=threads), backend, inspection
    except LeptonError:
        raise
    except Exception as error:
        raise ModelFailed(version, "load", f"{type(error).__name__}: {error}") from error
