"""Model versions as MLflow knows them, whoever registered them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lepton_mlflow.access import Access
from lepton_mlflow.description import without_block
from lepton_mlflow.digests import is_copy, recorded_digest
from lepton_mlflow.experiments import get_registered_model
from lepton_mlflow.faults import is_missing
from lepton_mlflow.model_files import FileFacts, ModelFiles
from lepton_mlflow.names import FRAMEWORK, LABEL, META, is_ours, quoted
from lepton_plugins.canonical import digest_tree
from lepton_plugins.errors import DigestMismatch, InvalidInput, LabelAmbiguous, VersionNotFound
from lepton_plugins.records.version import ModelVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

_PAGE = 1000
_REQUIREMENTS = "requirements.txt"
#: MLmodel files read for one listing: of thousands of versions only the newest are looked into.
_LOOKED_INTO = 200


class Versions:
    """Lists, finds and fetches model versions."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.files = ModelFiles(access)

    def list_versions(self, model: str) -> list[ModelVersion]:
        """By number, ascending. Flavours and signature are those of the newest 200; `get` reads any."""
        with self._access.doing(f"list the versions of {model!r}") as client:
            aliases = _aliases(get_registered_model(client, model))
            found = sorted(search(client, f"name={quoted(model)}"), key=lambda version: int(version.version))
            facts = self.files.facts(client, found[-_LOOKED_INTO:])
        return [_record(version, aliases, facts.get(str(version.version))) for version in found]

    def get(self, model: str, version: str) -> ModelVersion:
        """By number, by label, or by alias (`@champion`)."""
        with self._access.doing(f"find version {version} of {model!r}") as client:
            aliases = _aliases(get_registered_model(client, model))
            found = self.find(client, model, version)
            facts = self.files.facts(client, [found])
        return _record(found, aliases, facts.get(str(found.version)))

    def find(self, client: MlflowClient, model: str, version: str) -> MlflowVersion:
        """MLflow's own record of a version; called inside `Access.doing`. VersionNotFound lists what there is."""
        try:
            if version.startswith("@"):
                return client.get_model_version_by_alias(model, version[1:])
            if version.isascii() and version.isdigit():
                return client.get_model_version(model, version)
        except Exception as error:
            if not is_missing(error) and "not found" not in str(error).lower():
                raise
        if (labelled := find_label(client, model, version)) is not None:
            return labelled
        get_registered_model(client, model)
        everything = sorted(search(client, f"name={quoted(model)}"), key=lambda found: int(found.version))
        known = [
            f"{found.version} ({found.tags[LABEL]})" if LABEL in found.tags else str(found.version)
            for found in everything[-20:]
        ]
        raise VersionNotFound(model, version, known)

    def fetch(self, version: ModelVersion, to: Path) -> str:
        """Copy the version's files into the empty directory `to`, once; their digest, checked."""
        to.mkdir(parents=True, exist_ok=True)
        if any(to.iterdir()):
            raise InvalidInput(f"{to}: found a directory with files in it, expected an empty one.")
        name = f"version {version.version} of {version.model!r}"
        try:
            with self._access.doing(f"download {name}") as client:
                found = client.get_model_version(version.model, version.version)
                location = self.files.location(client, found)
                self._access.download(location, "", to)
                if not any(to.iterdir()):
                    raise FileNotFoundError(f"there are no files at {location}")
            digest = digest_tree(to)
            if version.artifact_digest not in (None, digest):
                raise DigestMismatch(name.capitalize(), digest, str(version.artifact_digest))
        except BaseException:
            _empty(to)
            raise
        return digest

    def requirements(self, version: ModelVersion) -> list[str] | None:
        """The lines of the version's requirements.txt; None if it has none."""
        with self._access.doing(f"read the requirements of version {version.version} of {version.model!r}") as client:
            found = client.get_model_version(version.model, version.version)
            location = self.files.location(client, found)
            with TemporaryDirectory() as folder:
                try:
                    self._access.download_file(location, _REQUIREMENTS, file := Path(folder) / _REQUIREMENTS)
                except Exception:  # Each store has its own way to say that there is no such file.
                    return None
                return file.read_text(encoding="utf-8").splitlines() if file.is_file() else None


def search(client: MlflowClient, filter_string: str) -> Iterator[MlflowVersion]:
    """All versions that match, page by page."""
    token: str | None = None
    while True:
        page = client.search_model_versions(filter_string, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def find_label(client: MlflowClient, model: str, label: str) -> MlflowVersion | None:
    """The version with this label; LabelAmbiguous if several carry it. Labels on copies don't count."""
    if not label or ("'" in label and '"' in label):
        return None
    matches = search(client, f"name={quoted(model)} and tags.`{LABEL}`={quoted(label)}")
    found = [match for match in matches if not is_copy(model, str(match.version), match.tags)]
    if len(found) > 1:
        raise LabelAmbiguous(model, label, sorted((str(match.version) for match in found), key=int))
    return found[0] if found else None


def _aliases(registered: object) -> dict[str, tuple[str, ...]]:
    """Aliases by version number: search results lack them, the registered model has them all."""
    by_version: dict[str, tuple[str, ...]] = {}
    for alias, number in sorted((getattr(registered, "aliases", None) or {}).items()):
        by_version[str(number)] = (*by_version.get(str(number), ()), alias)
    return by_version


def _record(found: MlflowVersion, aliases: dict[str, tuple[str, ...]], facts: FileFacts | None) -> ModelVersion:
    number, tags, facts = str(found.version), dict(found.tags), facts or FileFacts()
    copied = is_copy(found.name, number, tags)
    # The user's own tags are metadata as well; what was given to Lepton stands above them.
    plain = {key: value for key, value in tags.items() if not is_ours(key) and not key.startswith("mlflow.")}
    given = {key.removeprefix(META): value for key, value in tags.items() if key.startswith(META)}
    return ModelVersion(
        model=found.name,
        version=number,
        label=None if copied else tags.get(LABEL),
        framework=tags.get(FRAMEWORK) or facts.framework,
        flavors=facts.flavors,
        uri=f"models:/{found.name}/{number}",
        source=facts.location or found.source,
        signature=facts.signature,
        metadata={**plain, **given},
        artifact_digest=recorded_digest(found.name, number, tags),
        aliases=aliases.get(number, ()),
        description=without_block(found.description or "") or None,
        run_id=found.run_id or None,
        status=found.status or "READY",
    )


def _empty(folder: Path) -> None:
    import shutil

    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
