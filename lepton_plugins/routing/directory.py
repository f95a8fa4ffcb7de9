"""The deployment directory: `plan.json`, `models/<artifact digest>/`, `policy/`; the one input of every router.

A version that a service of its own runs has `services/<artifact digest>/` in the place of its files: what says where
that service is. The plan is the same plan, with the same digest.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

from pydantic import ValidationError

from lepton_plugins.canonical import canonical_json, digest_bytes, digest_tree
from lepton_plugins.errors import DigestMismatch, DirectoryInvalid, DiskFull, PlanNotFound
from lepton_plugins.folder_swap import take_place
from lepton_plugins.plugins import validation_lines
from lepton_plugins.records.plan import Arm, DeploymentPlan, PlanRevision
from lepton_plugins.registry import Registry

PLAN = "plan.json"
MODELS = "models"
SERVICES = "services"
POLICY = "policy"

#: Tells what is being fetched: (version, index, total).
Progress = Callable[[str, int, int], None]

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_POLICY_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class DeploymentDirectory:
    """An opened deployment directory: its plan, its policy files' bytes, and where its models are."""

    def __init__(self, path: Path, plan: DeploymentPlan, policy_files: Mapping[str, bytes]) -> None:
        self.path = path
        self.plan = plan
        self.policy_files = policy_files

    @classmethod
    def open(cls, path: Path | str, digest: str | None = None, *, models: bool = True) -> DeploymentDirectory:
        """Check the plan, the policy's files and the layout; models' bytes are checked when they are loaded.

        `digest` is the plan that must be in it, where the caller knows; without `models` their files may lie
        elsewhere. DirectoryInvalid tells what is wrong.
        """
        path = Path(path).absolute()
        plan = _read_plan(path)
        if digest is not None and plan.digest != digest:
            raise DirectoryInvalid(path, f"it holds the plan {plan.digest[:19]}…, expected {digest[:19]}…")
        files: dict[str, bytes] = {}
        for file in plan.policy.files:
            location = path / POLICY / policy_path(file.path, path)
            if not location.is_file() or not location.resolve().is_relative_to(path.resolve()):
                raise DirectoryInvalid(path, f"the policy's file {file.path!r} is missing")
            files[file.path] = location.read_bytes()
            if digest_bytes(files[file.path]) != file.digest:
                raise DirectoryInvalid(path, f"the policy's file {file.path!r} changed after it was planned")
        directory = cls(path, plan, files)
        for arm in plan.arms if models else ():
            if directory.service_path(arm) is None:
                directory.model_path(arm)
        return directory

    def model_path(self, arm: Arm) -> Path:
        """Where an arm's files are: a directory, or the one file it consists of."""
        folder = self.path / MODELS / digest_hex(arm.artifact_digest, self.path)
        if not folder.is_dir():
            raise DirectoryInvalid(
                self.path, f"the files of version {arm.version} are missing ({MODELS}/{folder.name})"
            )
        return folder

    def service_path(self, arm: Arm) -> Path | None:
        """What says where the service is that runs this arm; None where its files are here."""
        folder = self.path / SERVICES / digest_hex(arm.artifact_digest, self.path)
        return folder if folder.is_dir() else None

    def check_model(self, arm: Arm) -> Path:
        """The arm's files, after comparing their digest with the plan's; else DigestMismatch."""
        folder = self.model_path(arm)
        try:
            found = digest_tree(folder)
        except ValueError as error:
            raise DirectoryInvalid(self.path, f"version {arm.version}: {error}") from None
        if found != arm.artifact_digest:
            raise DigestMismatch(f"Version {arm.version} in {self.path.name}", found, arm.artifact_digest)
        return folder


def pull(
    registry: Registry,
    model: str,
    to: Path,
    revision: PlanRevision | None = None,
    *,
    share: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Path:
    """Make `to` the deployment directory of a plan: the one in force, or `revision`. Returns `to`.

    It appears at once and complete, or not at all: it is built beside `to`, written through to the disk and
    renamed. Models that `to`, or a deployment directory in `share`, already holds with the right digest are
    linked, not fetched. PlanNotFound, DigestMismatch, DiskFull; DirectoryInvalid where `to` holds something else.
    """
    to = to.absolute()
    if revision is None:
        revision = registry.plan_in_force(model)
        if revision is None:
            raise PlanNotFound(model)
    plan, files = registry.get_plan(revision)
    _check_replaceable(to)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(mkdtemp(prefix=f".{to.name}-", dir=to.parent))
        try:
            staging.chmod(0o755)
            _write_models(registry, model, plan, staging, [to, *share], progress)
            write_plan(plan, files, staging)
            _sync_tree(staging)
            take_place(staging, to)
            _sync(to.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except (OSError, DiskFull) as error:
        if isinstance(error, OSError) and not DiskFull.told_by(error):
            raise
        raise DiskFull(to, "pull to another place; nothing half-written was left") from error
    return to


def write_plan(plan: DeploymentPlan, files: Mapping[str, bytes], to: Path) -> None:
    """Write `plan.json` and the policy's files, checking their digests."""
    for file in plan.policy.files:
        content = files.get(file.path)
        if content is None:
            raise DirectoryInvalid(to, f"the registry's plan lacks the policy's file {file.path!r}")
        if (found := digest_bytes(content)) != file.digest:
            raise DigestMismatch(f"The policy's file {file.path!r}", found, file.digest)
        target = to / POLICY / policy_path(file.path, to)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (to / PLAN).write_bytes(plan.content)


def digest_hex(digest: str, where: Path) -> str:
    """The hex part of a digest, which names a folder: anything but 64 hex digits is refused."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise DirectoryInvalid(where, f"found {digest[:80]!r} as a digest, expected sha256: and 64 hex digits")
    return match[1]


def policy_path(name: str, where: Path) -> Path:
    """A policy file's place below `policy/`; names that could lead elsewhere are refused."""
    parts = PurePosixPath(name).parts
    if not parts or not all(_POLICY_PART.fullmatch(part) for part in parts):
        raise DirectoryInvalid(where, f"found {name[:80]!r} as the name of a policy's file, expected a relative path")
    return Path(*parts)


# --- reading -------------------------------------------------------------------------------------


def _read_plan(path: Path) -> DeploymentPlan:
    if not path.is_dir():
        raise DirectoryInvalid(path, "there is no such directory")
    file = path / PLAN
    if not file.is_file():
        raise DirectoryInvalid(path, f"it has no {PLAN}")
    content = file.read_bytes()
    try:
        plan = DeploymentPlan.read(content)
    except ValidationError as error:
        raise DirectoryInvalid(path, f"{PLAN} can't be read: {validation_lines(error)[:500]}") from None
    if canonical_json(json.loads(content)) != content:
        # A plan's identity is the digest of its canonical form: any other bytes were edited by hand.
        raise DirectoryInvalid(path, f"{PLAN} isn't in the form it was written in: it was changed by hand")
    versions = [arm.version for arm in plan.arms]
    if len(set(versions)) != len(versions):
        raise DirectoryInvalid(path, f"{PLAN} has an arm twice: {', '.join(versions)}")
    named = {"default": (plan.default,), "shadow": plan.around.shadow}
    if plan.around.fallback is not None:
        named["fallback"] = (plan.around.fallback,)
    if plan.around.degrade is not None:
        named["around.degrade.to"] = (str(plan.around.degrade.to),)
    for role, wanted in named.items():
        for version in wanted:
            if version not in versions:
                raise DirectoryInvalid(path, f"{PLAN} names version {version} as {role}, which isn't an arm")
    return plan


# --- writing -------------------------------------------------------------------------------------


def _write_models(
    registry: Registry,
    model: str,
    plan: DeploymentPlan,
    staging: Path,
    sources: Sequence[Path],
    progress: Progress | None,
) -> None:
    (staging / MODELS).mkdir()
    for index, arm in enumerate(plan.arms):
        name = digest_hex(arm.artifact_digest, staging)
        target = staging / MODELS / name
        if target.exists():
            continue  # Two versions with the same bytes.
        if progress is not None:
            progress(arm.version, index, len(plan.arms))
        if any(_link_model(source / MODELS / name, target, arm.artifact_digest) for source in sources):
            continue
        target.mkdir()
        found = registry.fetch(registry.get_version(model, arm.version), target)
        if found != arm.artifact_digest:
            raise DigestMismatch(f"Version {arm.version} of {model!r}", found, arm.artifact_digest)


def _link_model(source: Path, target: Path, digest: str) -> bool:
    """Take over a model that is here already; False where it isn't, or isn't what it should be."""
    if not source.is_dir():
        return False
    try:
        if digest_tree(source) != digest:
            return False
        shutil.copytree(source, target, copy_function=_link)
    except (OSError, ValueError):
        shutil.rmtree(target, ignore_errors=True)
        return False
    return True


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # Another file system, or one without links.
        shutil.copy2(source, target)


def _check_replaceable(to: Path) -> None:
    if not to.exists() or (to.is_dir() and ((to / PLAN).is_file() or not any(to.iterdir()))):
        return
    raise DirectoryInvalid(to, "it exists and holds something else; name a new or an empty directory")


def _sync_tree(path: Path) -> None:
    for folder, _, files in os.walk(path):
        for file in files:
            _sync(Path(folder) / file)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
