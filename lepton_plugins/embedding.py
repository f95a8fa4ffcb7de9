"""Lepton inside an artefact: the packages that a plan uses, with the dist-info that makes their plugins found."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

from lepton_plugins.errors import EnvironmentUnknown, LeptonNotRequired, RequirementsUnpinned
from lepton_plugins.plugins import DISTRIBUTION, EMBEDDED, GROUP, plugins
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.plugin import BackendOffer, Offer
from lepton_plugins.requirements import merge, readable
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.routing.loading import backend_of

CORE = "lepton_plugins"
REQUIREMENTS = "requirements.txt"

#: For the command line and for generating: no artefact does either.
_NOT_SERVING = ("packaging", "rich", "typer")
#: Parts of the core that only people use.
_FOR_PEOPLE = ("cli", "quickstart", "testing")


@dataclass(frozen=True, slots=True)
class Embedding:
    """What an artefact carries of Lepton, and what must be installed beside it."""

    entry_points: tuple[str, ...]
    """Lepton's own plugins that the plan uses, by their entry points' names."""
    strangers: tuple[str, ...]
    """Other distributions whose plugins the plan uses, pinned."""
    requirements: tuple[str, ...]
    """Everything to install, merged, pinned and sorted; Lepton itself only where it isn't embedded."""


def embedding(
    directory: DeploymentDirectory,
    *,
    also: Sequence[str] = (),
    stores: Sequence[Offer] = (),
    needs: Iterable[str] = (),
    extra: Iterable[str] = (),
    lepton_requirement: str | None = None,
) -> Embedding:
    """What a deployment needs.

    `also` are further entry points of Lepton's own, `stores` what decisions and learning state are kept in,
    `needs` the target's requirements, `extra` the user's; `lepton_requirement` names Lepton instead of
    embedding it.

    RequirementsConflict, RequirementInvalid; RequirementsUnpinned for packages that nobody pins and that aren't
    installed here; EnvironmentUnknown for a version that doesn't say what it needs; LeptonNotRequired.
    """
    backends = {arm.version: backend_of(directory, arm) for arm in directory.plan.arms}
    own, strangers = _used(directory.plan, backends.values(), stores)
    wanted: dict[str, Iterable[str]] = {"the target": needs, "the option requirements": extra}
    wanted |= {f"version {version}": lines for version, lines in _of_versions(directory, tuple(extra))}
    wanted["Lepton"] = [*_requires(), *_of_plugins(directory.plan, backends.values(), stores), *strangers]
    if lepton_requirement is not None:
        _check_brings_lepton(lepton_requirement)
        wanted["the option lepton_requirement"] = [lepton_requirement]
    return Embedding(tuple(sorted({*own, *also})), strangers, _for_gpus(_pinned(merge(wanted)), directory))


def _check_brings_lepton(line: str) -> None:
    """LeptonNotRequired unless the line installs Lepton, by itself or by what that package requires."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for found in readable("the option lepton_requirement", [line]):
        name = Requirement(found).name
        try:
            further = distribution(name).requires or []
        except PackageNotFoundError:
            further = []
        brought = {canonicalize_name(item) for item in (name, *(Requirement(line).name for line in further))}
        if canonicalize_name(DISTRIBUTION) in brought:
            return
    raise LeptonNotRequired(line, DISTRIBUTION)


def _pinned(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The lines, all of them pinned but those for other platforms than this one. RequirementsUnpinned."""
    from packaging.requirements import Requirement

    loose = []
    for line in lines:
        found = Requirement(line)
        here = found.marker is None or found.marker.evaluate()
        if here and not any(item.operator in ("==", "===") for item in found.specifier):
            loose.append(line)
    if loose:
        raise RequirementsUnpinned(loose)
    return lines


def _for_gpus(lines: tuple[str, ...], directory: DeploymentDirectory) -> tuple[str, ...]:
    """ONNX Runtime with CUDA where the plan gives a version that runs here a GPU; it runs the others on CPUs."""
    arms = [arm for arm in directory.plan.arms if directory.service_path(arm) is None]
    if not any(arm.resources.gpu for arm in arms):
        return lines
    return tuple(sorted(re.sub(r"^onnxruntime(?=[=;\[ ]|$)", "onnxruntime-gpu", line) for line in lines))


def write_packages(found: Embedding, to: Path) -> None:
    """Write Lepton's packages and their dist-info below `to`, which is to stand on `sys.path`.

    The dist-info has a name of its own: it comes first there, and under Lepton's it would hide what an
    installed Lepton offers (MLflow's evaluator, its deployment targets) to whoever looks afterwards.
    """
    installed = distribution(DISTRIBUTION)
    points = [entry for entry in installed.entry_points if entry.group == GROUP and entry.name in found.entry_points]
    for package in sorted({CORE, *(entry.module.partition(".")[0] for entry in points)}):
        _copy_package(package, to / package)
    info = to / f"{EMBEDDED.replace('-', '_')}-{installed.version}.dist-info"
    info.mkdir(parents=True)
    header = ["Metadata-Version: 2.4", f"Name: {EMBEDDED}", f"Version: {installed.version}"]
    header += ["License-Expression: Apache-2.0", *(f"Requires-Dist: {line}" for line in sorted(_requires()))]
    (info / "METADATA").write_text("\n".join(header) + "\n", encoding="utf-8")
    lines = [f"[{GROUP}]", *sorted(f"{entry.name} = {entry.value}" for entry in points)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    licence = installed.read_text("licenses/LICENSE")
    if licence is not None:
        (info / "licenses").mkdir()
        (info / "licenses" / "LICENSE").write_text(licence, encoding="utf-8")


def copy_deployment(directory: Path, to: Path) -> None:
    """The deployment directory's files: plan, models, services, policy; nothing else that lies there."""
    opened = DeploymentDirectory.open(directory)
    to.mkdir(parents=True)
    shutil.copyfile(directory / "plan.json", to / "plan.json")
    for arm in opened.plan.arms:
        source = opened.service_path(arm) or opened.check_model(arm)
        target = to / source.relative_to(opened.path)
        if not target.exists():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
    for name, content in sorted(opened.policy_files.items()):
        file = to / "policy" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def files_below(folder: Path) -> list[Path]:
    """What a target's `render` returns: the files, relative, sorted as text."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(files, key=lambda path: path.as_posix())


# --- what a plan uses ----------------------------------------------------------------------------


def _used(
    plan: DeploymentPlan, backends: Iterable[str], stores: Sequence[Offer]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entry points of Lepton's own, and other distributions as pinned requirements."""
    found = [plugins().provider("backend", name) for name in backends]
    found.append(plugins().provider("policy", plan.policy.kind))
    found += [plugins().provider("store", store.name) for store in stores]
    own = {status.name for status in found if status.distribution == DISTRIBUTION}
    others = {f"{status.distribution}=={status.version}" for status in found if status.distribution != DISTRIBUTION}
    return tuple(sorted(own)), tuple(sorted(others))


def _offer(backend: str) -> BackendOffer:
    offer = plugins().offer("backend", backend)
    assert isinstance(offer, BackendOffer)
    return offer


def _of_plugins(plan: DeploymentPlan, backends: Iterable[str], stores: Sequence[Offer]) -> list[str]:
    """The distributions behind what the plan's plugins import."""
    imported = {package for name in backends for package in _offer(name).requires}
    imported |= set(plugins().offer("policy", plan.policy.kind).requires)
    imported |= {package for store in stores for package in store.requires}
    known = _distributions(tuple((path, _changed(path)) for path in sys.path))
    return sorted(min(known.get(name, [name]), key=lambda dist: (dist != name, dist)) for name in imported)


@cache
def _distributions(path: tuple[tuple[str, int], ...]) -> Mapping[str, list[str]]:
    """By package, the distributions that have it. A second is what reading them all takes: they are read once a `path`,
    folders with when they changed."""
    return packages_distributions()


def _changed(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def _of_versions(directory: DeploymentDirectory, extra: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """What the versions were logged with, as far as their backend runs them in that."""
    for arm in directory.plan.arms:
        offer = _offer(arm.backend)
        if not offer.own_environment or directory.service_path(arm) is not None:
            continue
        file = directory.model_path(arm) / REQUIREMENTS
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            yield arm.version, without_backends_own(lines, offer)
        elif not extra:
            raise EnvironmentUnknown(arm.version)


def without_backends_own(lines: Iterable[str], offer: BackendOffer) -> list[str]:
    """A version's requirements without the packages of the backend that runs it."""
    return [line for line in lines if not _is_backends_own(line, offer)]


def _is_backends_own(line: str, offer: BackendOffer) -> bool:
    """A backend reads what earlier releases of its packages wrote (mlflow, mlflow-skinny): one for all versions."""
    name = re.match(r"[a-z0-9]+(?=([-_.][a-z0-9]+)?([^a-z0-9._-]|$))", line.strip().lower())
    return name is not None and name[0] in offer.requires


def _requires() -> list[str]:
    """What Lepton's core needs beside a command line."""
    from packaging.requirements import Requirement

    lines = [Requirement(line) for line in distribution(DISTRIBUTION).requires or []]
    return [str(line) for line in lines if line.marker is None and line.name not in _NOT_SERVING]


def _copy_package(package: str, to: Path) -> None:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations, package
    source = Path(next(iter(spec.submodule_search_locations)))
    shutil.copytree(
        source, to, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"), copy_function=shutil.copyfile
    )
    if package == CORE:
        for part in _FOR_PEOPLE:
            shutil.rmtree(to / part)
