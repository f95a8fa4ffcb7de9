"""Copying the versions' files to where a cluster can pull them: object storage, or a claim that is mounted here."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lepton_kserve.sources import folders, is_pullable
from lepton_plugins.canonical import digest_tree
from lepton_plugins.errors import ClaimNotMounted, InvalidInput, PackageMissing, UploadFailed
from lepton_plugins.routing.directory import DeploymentDirectory

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

#: Object storage by scheme: what MLflow's artifact repository for it imports, and how to get that.
_STORES = {"s3": ("boto3", "boto3"), "gs": ("google.cloud.storage", "google-cloud-storage")}


def upload(directory: DeploymentDirectory, to: str, mount: Path | None) -> list[str]:
    """Copy each version to `to`/<digest>, after checking its digest; returns the folders that were copied.

    What is there already isn't copied again: in a claim the digest tells, in object storage the names and
    sizes of the files. Object storage is reached as MLflow reaches it: the same credentials and variables
    (`AWS_PROFILE`, `MLFLOW_S3_ENDPOINT_URL` …). InvalidInput, ClaimNotMounted, PackageMissing, UploadFailed.
    """
    check(to, mount)
    place = None if mount is None else _below(mount, to)
    copied = []
    for folder, arm in folders(directory.plan).items():
        files = directory.check_model(arm)
        done = _store(files, f"{to.rstrip('/')}/{folder}") if place is None else _copy(files, place / folder)
        if done:
            copied.append(folder)
    return copied


def check(to: str, mount: Path | None) -> None:
    """Whether this can be uploaded to at all, before anything is rendered."""
    scheme = urlsplit(to).scheme
    if not is_pullable(to) or scheme not in (*_STORES, "pvc"):
        raise InvalidInput(
            f"--upload: found {to!r}, expected s3://bucket/folder, gs://bucket/folder or pvc://claim/folder."
        )
    if scheme != "pvc":
        package, distribution = _STORES[scheme]
        if mount is not None:
            raise InvalidInput(f"--mount is where a claim is mounted; found it with --upload {to}.")
        for needed, install in (("mlflow", "lepton-plugins[mlflow]"), (package, distribution)):
            if not _installed(needed):
                raise PackageMissing(needed, f"--upload {scheme}://", f"pip install '{install}'")
    elif mount is None or not mount.is_dir():
        raise ClaimNotMounted(to, mount)


def _below(mount: Path, to: str) -> Path:
    """The folder in the mounted claim that pvc://claim/folder names."""
    parts = PurePosixPath(urlsplit(to).path.lstrip("/")).parts
    if ".." in parts:
        raise InvalidInput(f"--upload: found {to!r}, expected pvc://claim/folder without ..")
    return mount.joinpath(*parts)


def _copy(files: Path, target: Path) -> bool:
    """Into a mounted claim, at once: a pod that mounts it sees all of a version or nothing."""
    digest = f"sha256:{target.name}"
    if target.is_dir() and digest_tree(target) == digest:
        return False
    staging: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(mkdtemp(prefix=f".{target.name[:12]}-", dir=target.parent))
        shutil.copytree(files, staging / "files", copy_function=shutil.copyfile)
        for folder in (staging / "files", *(path for path in (staging / "files").rglob("*") if path.is_dir())):
            folder.chmod(0o755)  # The pod's user is another one than who copies.
        if digest_tree(staging / "files") != digest:
            raise UploadFailed(str(target), "the copy differs from the original; the disk may be full or broken")
        shutil.rmtree(target, ignore_errors=True)
        (staging / "files").rename(target)
    except OSError as error:
        raise UploadFailed(str(target), error.strerror or str(error)) from None
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return True


def _store(files: Path, address: str) -> bool:
    """Into object storage, through MLflow's own repository for it."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    here = {path.relative_to(files).as_posix(): path.stat().st_size for path in files.rglob("*") if path.is_file()}
    try:
        repository = get_artifact_repository(address)
        if _listed(repository) == here:
            return False
        repository.log_artifacts(str(files))
        found = _listed(repository)
    except Exception as error:
        raise UploadFailed(address, " ".join(str(error).split())[:300] or type(error).__name__) from None
    if missing := sorted(name for name, size in here.items() if found.get(name) != size):
        raise UploadFailed(address, f"after the upload {missing[0]} is missing there or has another size")
    return True


def _listed(repository: ArtifactRepository, path: str | None = None) -> dict[str, int]:
    """The files of an address with their sizes, by relative path."""
    found: dict[str, int] = {}
    for item in repository.list_artifacts(path):
        found |= _listed(repository, item.path) if item.is_dir else {item.path: int(item.file_size or 0)}
    return found


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
