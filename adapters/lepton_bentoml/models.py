"""The versions as BentoML models, named by their digest: a bento lists them, several bentos share them."""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import shutil
import weakref
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import bentoml
from bentoml.exceptions import BentoMLException, NotFound
from bentoml.models import BentoModel

from lepton_plugins.canonical import digest_tree
from lepton_plugins.errors import BentoModelChanged, BentoModelMissing
from lepton_plugins.records.plan import Arm
from lepton_plugins.routing.directory import MODELS, SERVICES, DeploymentDirectory, digest_hex, write_plan

#: Below a BentoML model's own directory, which holds a file of BentoML's too.
FILES = "files"
#: Of the folders of links, each with a file that is locked as long as the folder is in use.
_PREFIX, _LOCK = "lepton-bento-", "in-use"
#: BentoML's limit on a name is 63 characters; as many digits as Git shows name a version beyond doubt.
_DIGITS = 40


def bento_name(text: str) -> str:
    """A name as BentoML takes it: lower-case letters, digits and '-'."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "model"


def model_tag(model: str, arm: Arm, where: Path) -> str:
    """`flights:9c3f…`: the same files have the same tag, whichever plan or version they belong to."""
    return f"{bento_name(model)}:{digest_hex(arm.artifact_digest, where)[:_DIGITS]}"


class BentoDeployment:
    """A deployment directory whose models are in BentoML's store; those that aren't yet are put there.

    `path` is a deployment directory made of links, for as long as this object lives. BentoModelMissing,
    BentoModelChanged, DirectoryInvalid.
    """

    def __init__(self, directory: Path | str) -> None:
        opened = DeploymentDirectory.open(directory, models=False)
        self.plan = opened.plan
        here = [arm for arm in opened.plan.arms if opened.service_path(arm) is None]
        self.tags = {arm.version: model_tag(opened.plan.model, arm, opened.path) for arm in here}
        _remove_abandoned()
        self._folder = TemporaryDirectory(prefix=_PREFIX)
        self.path = Path(self._folder.name)
        weakref.finalize(self, os.close, _locked(self.path))
        write_plan(opened.plan, opened.policy_files, self.path)
        (self.path / MODELS).mkdir()
        if len(here) < len(opened.plan.arms):
            (self.path / SERVICES).symlink_to(opened.path / SERVICES, target_is_directory=True)
        for arm in here:
            link = self.path / MODELS / digest_hex(arm.artifact_digest, opened.path)
            if not link.exists():  # Two versions with the same bytes.
                link.symlink_to(_stored(opened, arm, self.tags[arm.version]), target_is_directory=True)

    @property
    def references(self) -> dict[str, BentoModel]:
        """What a service's class must have as attributes for its bento to list the models."""
        versions: dict[str, str] = {}
        for version, tag in self.tags.items():
            versions.setdefault(tag, f"version_{re.sub(r'[^A-Za-z0-9]', '_', version)}")
        return {name: BentoModel(tag) for tag, name in versions.items()}


def _locked(folder: Path) -> int:
    """A lock that ends with this process and those forked from it, whatever ends them."""
    made = folder / f"{_LOCK}-soon"  # Another process finds the file locked, or not at all.
    lock = os.open(made, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    made.rename(folder / _LOCK)
    return lock


def _remove_abandoned() -> None:
    """Remove the links of processes that a signal ended: uvicorn's own end by SIGTERM runs no exit handlers.

    `bentoml serve` itself, whose processes these are, ends by them.
    """
    for folder in Path(gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # Of another user, in use, or removed by another process meanwhile.
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


atexit.register(_remove_abandoned)


def _stored(directory: DeploymentDirectory, arm: Arm, tag: str) -> Path:
    """Where the store has the files of an arm, after putting them there where it hasn't."""
    here = directory.path / MODELS / digest_hex(arm.artifact_digest, directory.path)
    try:
        stored = bentoml.models.get(tag)
    except NotFound:
        if not here.is_dir():
            raise BentoModelMissing(arm.version, tag) from None
        stored = _put(directory.check_model(arm), arm, tag)
    files = Path(stored.path_of(FILES))
    # A project in the making; in a bento the router checks when it loads.
    if here.is_dir() and (found := digest_tree(files)) != arm.artifact_digest:
        raise BentoModelChanged(tag, found)
    return files


def _put(source: Path, arm: Arm, tag: str) -> bentoml.Model:
    try:
        about = {"framework": arm.framework, "artifact_digest": arm.artifact_digest}
        with bentoml.models.create(tag, labels={"lepton": "version"}, metadata=about) as made:
            shutil.copytree(source, made.path_of(FILES), ignore=shutil.ignore_patterns("__pycache__"))
    except BentoMLException as error:
        if "already exists" not in str(error):
            raise
    # The path while it is being made is a temporary one; another process may have been faster.
    return bentoml.models.get(tag)
