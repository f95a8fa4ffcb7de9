"""Registering a model from a path as a new version: all or nothing."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lepton_mlflow.access import Access
from lepton_mlflow.digests import digest_tag
from lepton_mlflow.experiments import artifact_location, discard_experiment, require_writable
from lepton_mlflow.faults import already_exists, is_missing
from lepton_mlflow.layouts.frameworks import lay_out
from lepton_mlflow.names import (
    DESCRIPTION_LIMIT,
    DIGEST,
    FRAMEWORK,
    KEY_LIMIT,
    LABEL,
    META,
    OPENS_ON_RUNS,
    VERSION_TAG_LIMIT,
    quoted,
)
from lepton_mlflow.process_setting import process_tracking_uri
from lepton_mlflow.undo import AllOrNothing
from lepton_mlflow.versions import Versions, find_label, search
from lepton_plugins.canonical import digest_tree
from lepton_plugins.errors import InvalidInput, LabelAmbiguous, LabelTaken, RecordTooLong
from lepton_plugins.records.version import ModelVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Registration:
    """Makes versions."""

    def __init__(self, access: Access, versions: Versions) -> None:
        self._access = access
        self._versions = versions

    def register(
        self, model: str, path: Path, *, framework: str | None, label: str | None, metadata: Mapping[str, str]
    ) -> ModelVersion:
        """A new version of `model` from the files at `path`; the model is made if there is none.

        The files become an MLflow model directory and a LoggedModel of the experiment `<model>`: they are
        the user's, and stay when Lepton is purged. Everything that can be checked is checked before
        anything is written; if a later step fails, what was written is removed.
        """
        _check_names(model, label, metadata)
        layout = lay_out(path, framework)
        with tempfile.TemporaryDirectory(prefix="lepton-register-") as folder:
            directory = Path(folder) / "model"
            directory.mkdir()
            with self._access.doing(f"register a version of {model!r}", creating=True) as client:
                if label is not None:
                    _check_label(client, model, label)
                layout.write(directory)
                digest = digest_tree(directory)
                tags = {f"{META}{key}": value for key, value in metadata.items()} | {FRAMEWORK: layout.framework}
                if label is not None:
                    tags[LABEL] = label
                version = self._write(client, model, directory, tags, digest, metadata.get("description"))
        return self._versions.get(model, version)

    def _write(
        self,
        client: MlflowClient,
        model: str,
        directory: Path,
        tags: dict[str, str],
        digest: str,
        description: str | None,
    ) -> str:
        with AllOrNothing() as undo:
            if _make_model(client, model):
                undo.by(partial(_discard_model, client, model))
            else:
                require_writable(client, model)
            experiment_id = _models_experiment(self._access, client, model, undo)
            logged = client.create_logged_model(experiment_id, name=re.sub(r"[/:.%\"']", "-", model))
            undo.by(lambda: client.delete_logged_model(logged.model_id))
            undo.by(lambda: self._access.delete_files(logged.artifact_location))
            client.log_model_artifacts(logged.model_id, str(directory))
            client.finalize_logged_model(logged.model_id, "READY")
            with process_tracking_uri(self._access.uris[0]):
                made = client.create_model_version(
                    model,
                    source=f"models:/{logged.model_id}",
                    tags=tags,
                    description=description,
                    model_id=logged.model_id,
                )
            number = str(made.version)
            self._versions.files.remember(client, made, directory)
            undo.by(lambda: client.delete_model_version(model, number))
            client.set_model_version_tag(model, number, DIGEST, digest_tag(model, number, digest))
            if (label := tags.get(LABEL)) is not None:
                _keep_label(client, model, label, number)
        return number


def _check_names(model: str, label: str | None, metadata: Mapping[str, str]) -> None:
    if not model.strip() or re.search(r"[/:]", model):
        raise InvalidInput(f"Model name: found {model!r}, expected a name without '/' and ':'.")
    if label is not None and not re.fullmatch(r"[\w.+\- ]{1,128}", label):
        raise InvalidInput(
            f"Label: found {label!r}, expected up to 128 letters, digits, spaces, '.', '-', '+' or '_', such as 'v1'."
        )
    if label is not None and label.isdigit():
        raise InvalidInput(f"Label: found {label!r}, which reads as a version number; expected one such as 'v{label}'.")
    for key, value in metadata.items():
        if not re.fullmatch(r"[/\w.\- :]+", key) or len(key) > KEY_LIMIT - len(META):
            raise InvalidInput(
                f"Metadata key: found {key!r}, expected up to {KEY_LIMIT - len(META)} letters, digits, spaces, "
                f"'_', '.', '-', ':' or '/'."
            )
        if len(value) > VERSION_TAG_LIMIT:
            raise RecordTooLong(f"Metadata {key!r}", len(value), VERSION_TAG_LIMIT)
    if len(metadata.get("description", "")) > DESCRIPTION_LIMIT:
        raise RecordTooLong("The description", len(metadata["description"]), DESCRIPTION_LIMIT)


def _check_label(client: MlflowClient, model: str, label: str) -> None:
    try:
        taken = find_label(client, model, label)
    except LabelAmbiguous:
        raise LabelTaken(model, label, "several") from None
    if taken is not None:
        raise LabelTaken(model, label, str(taken.version))


def _keep_label(client: MlflowClient, model: str, label: str, number: str) -> None:
    """Of two registrations with one label at the same time the lower number keeps it.

    Numbers are given one after the other, so the later one sees the earlier one here.
    """
    try:
        find_label(client, model, label)
    except LabelAmbiguous as error:
        first = min(error.versions, key=int)
        if first != number:
            raise LabelTaken(model, label, first) from None


def _make_model(client: MlflowClient, model: str) -> bool:
    """Make the registered model; False if it was there."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(model)
        return False
    except MlflowException as error:
        if not is_missing(error):
            raise
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if already_exists(error):
            return False
        raise
    return True


def _discard_model(client: MlflowClient, model: str) -> None:
    """Remove a registered model that was made in vain; not where somebody's version has come into it meanwhile."""
    if next(search(client, f"name={quoted(model)}"), None) is None:
        client.delete_registered_model(model)


def _discard_own(client: MlflowClient, experiment_id: str, name: str) -> None:
    """The same for the experiment of a model's files."""
    if not client.search_logged_models(experiment_ids=[experiment_id], max_results=1):
        discard_experiment(client, experiment_id, name)


def _models_experiment(access: Access, client: MlflowClient, model: str, undo: AllOrNothing) -> str:
    """The experiment named as the model, whose LoggedModels hold the files."""
    from mlflow.exceptions import MlflowException

    for _ in range(2):
        found = client.get_experiment_by_name(model)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        try:
            place = artifact_location(access, client, model)
            made = str(client.create_experiment(model, artifact_location=place, tags=OPENS_ON_RUNS))
        except MlflowException as error:
            if not already_exists(error):
                raise
        else:
            undo.by(partial(_discard_own, client, made, model))
            return made
    raise AssertionError("an experiment is neither there nor can it be made")
