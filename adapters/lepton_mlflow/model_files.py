"""The files behind a model version: where they are, and what their MLmodel says."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lepton_mlflow.access import Access
from lepton_mlflow.quiet import quiet
from lepton_plugins.errors import ModelFilesInvalid
from lepton_plugins.records.signature import Signature
from lepton_plugins.routing.mlmodel import MLMODEL, read_mlmodel

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

logger = logging.getLogger("lepton_mlflow")

#: A chain of copies (`models:/a/1` → `models:/b/2` → …) longer than this is followed no further.
_LONGEST_CHAIN = 20
_THREADS = 8

#: MLflow's names of flavours and Lepton's of frameworks, where they differ.
_FRAMEWORKS = {"pytorch": "torch", "python_function": "pyfunc"}


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a version's MLmodel says, and where its files are."""

    flavors: tuple[str, ...] = ()
    signature: Signature | None = None
    location: str | None = None

    @property
    def framework(self) -> str | None:
        names = [name for name in self.flavors if name != "python_function"] or list(self.flavors)
        return _FRAMEWORKS.get(names[0], names[0]) if names else None


class ModelFiles:
    """Reads MLmodel files, each once in this process: a version's files don't change."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._facts: dict[tuple[str, str, str], FileFacts] = {}
        self._lock = threading.Lock()

    def location(self, client: MlflowClient, version: MlflowVersion) -> str:
        """The artifact URI of the version's files; called inside `Access.doing`.

        MLflow resolves `models:/…` sources when a version is made, and downloads such URIs through the
        process's own setting instead of this registry: so they are followed here.
        """
        uri = str(client.get_model_version_download_uri(version.name, version.version))
        for _ in range(_LONGEST_CHAIN):
            if not uri.startswith("models:/"):
                break
            name, _, number = uri.removeprefix("models:/").partition("/")
            if number:
                uri = str(client.get_model_version_download_uri(name, number))
            else:
                uri = str(client.get_logged_model(name).artifact_location)
        return uri

    def facts(self, client: MlflowClient, versions: Iterable[MlflowVersion]) -> dict[str, FileFacts]:
        """What the MLmodel of each version says, by number; a version whose files can't be read is left out."""
        wanted = {str(version.version): version for version in versions}
        missing = {number: v for number, v in wanted.items() if self._key(v) not in self._facts}
        if len(missing) == 1:
            for version in missing.values():
                self._read(client, version)
        elif missing:
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="lepton-mlmodel") as pool:
                list(pool.map(lambda version: self._read(client, version), missing.values()))
        with self._lock:
            known = {number: self._facts.get(self._key(version)) for number, version in wanted.items()}
        return {number: facts for number, facts in known.items() if facts is not None}

    def remember(self, client: MlflowClient, version: MlflowVersion, directory: Path) -> None:
        """Take the facts from files at hand instead of downloading them; called inside `Access.doing`."""
        content = read_mlmodel(directory)
        if content is not None:
            facts = FileFacts(tuple(content.flavors), content.signature, self.location(client, version))
            with self._lock:
                self._facts[self._key(version)] = facts

    def _read(self, client: MlflowClient, version: MlflowVersion) -> None:
        with quiet(), tempfile.TemporaryDirectory(prefix="lepton-") as folder:
            location: str | None = None
            try:
                location = self.location(client, version)
                self._access.download_file(location, MLMODEL, Path(folder) / MLMODEL)
                content = read_mlmodel(Path(folder))
            except ModelFilesInvalid:
                content = None
            except Exception:  # Files out of reach don't hide the version; it is asked again next time.
                logger.debug(
                    "the files of version %s of %r are out of reach", version.version, version.name, exc_info=True
                )
                return
        facts = FileFacts(location=location)
        if content is not None:
            facts = FileFacts(tuple(content.flavors), content.signature, location)
        with self._lock:
            self._facts[self._key(version)] = facts

    @staticmethod
    def _key(version: MlflowVersion) -> tuple[str, str, str]:
        return version.name, str(version.version), f"{version.source} {version.creation_timestamp}"


def logged_model_id(client: MlflowClient, version: MlflowVersion) -> str | None:
    """The LoggedModel behind a version, through chains of copies; None if it has none.

    MLflow's own `ModelVersion.model_id` is empty on SQL and REST stores: the source tells.
    """
    from mlflow.exceptions import MlflowException

    source = str(version.source or "")
    for _ in range(_LONGEST_CHAIN):
        if not source.startswith("models:/"):
            return None
        name, _, number = source.removeprefix("models:/").partition("/")
        if not number:
            return name
        try:
            source = str(client.get_model_version(name, number).source or "")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                logger.debug("the version %s of %r can't be read", number, name, exc_info=True)
            return None  # The version that this one was copied from is gone, or isn't ours to see.
    return None
