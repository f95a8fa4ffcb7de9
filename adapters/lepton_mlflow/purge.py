"""Removing everything that Lepton wrote, and nothing else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lepton_mlflow.access import Access
from lepton_mlflow.description import has_block, without_block
from lepton_mlflow.experiments import discard_experiment, get_registered_model
from lepton_mlflow.names import CHAMPION, KIND, is_ours, quoted
from lepton_mlflow.versions import search

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

logger = logging.getLogger("lepton_mlflow")


class Purge:
    """Undoes Lepton's records of one model or of all.

    What goes: tags `lepton.*` on versions and registered models, the alias `lepton-champion`, the blocks
    in descriptions, the experiments `lepton/<model>` with their runs and files. What stays: registered
    models, versions and their files, those that Lepton registered too, for they are the user's models;
    and everything a user wrote. MLflow deletes experiments softly: it frees their rows, and the
    `lepton/…` metrics on logged models, when its administrator runs `mlflow gc`.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    def run(self, model: str | None, *, dry_run: bool) -> list[str]:
        """Tells what was removed, or with `dry_run` what would be; a second run finds nothing."""
        told: list[str] = []
        with self._access.doing("purge Lepton's records") as client:
            names = [model] if model is not None else _model_names(client)
            for name in names:
                told += self._model(client, name, dry_run)
            for experiment in _experiments(client, model):
                told.append(f"experiment {experiment.name!r} with its runs and files")
                if not dry_run:
                    self._experiment(client, experiment)
        return told

    def _model(self, client: MlflowClient, model: str, dry_run: bool) -> list[str]:
        told = []
        for version in search(client, f"name={quoted(model)}"):
            tags = sorted(key for key in version.tags if is_ours(key))
            if tags:
                told.append(f"{len(tags)} tags of version {version.version} of {model!r}")
            if has_block(version.description or ""):
                told.append(f"the block in the description of version {version.version} of {model!r}")
            if dry_run:
                continue
            if has_block(version.description or ""):
                client.update_model_version(model, version.version, without_block(version.description or ""))
            for key in tags:
                client.delete_model_version_tag(model, version.version, key)
        registered = get_registered_model(client, model)
        tags = sorted(key for key in registered.tags or {} if is_ours(key))
        told += [f"tag {key} of {model!r}" for key in tags]
        if CHAMPION in (registered.aliases or {}):
            told.append(f"alias {CHAMPION} of {model!r}")
        if has_block(registered.description or ""):
            told.append(f"the block in the description of {model!r}")
        if not dry_run:
            if has_block(registered.description or ""):
                client.update_registered_model(model, without_block(registered.description))
            if CHAMPION in (registered.aliases or {}):
                client.delete_registered_model_alias(model, CHAMPION)
            for key in tags:
                client.delete_registered_model_tag(model, key)
        return told

    def _experiment(self, client: MlflowClient, experiment: Experiment) -> None:
        try:
            self._access.delete_files(str(experiment.artifact_location))
        except Exception as error:
            logger.warning("the files at %s could not be deleted: %s", experiment.artifact_location, error)
        discard_experiment(client, experiment.experiment_id, experiment.name)


def _model_names(client: MlflowClient) -> list[str]:
    names: list[str] = []
    token: str | None = None
    while True:
        page = client.search_registered_models(max_results=100, page_token=token)
        names += [registered.name for registered in page]
        token = page.token
        if not token:
            return names


def _experiments(client: MlflowClient, model: str | None) -> list[Experiment]:
    """Lepton's experiments, half-made ones of processes that died included; of one model or all."""
    found: list[Experiment] = []
    token: str | None = None
    while True:
        page = client.search_experiments(
            filter_string=f"tags.`{KIND}` = 'home' AND name LIKE 'lepton/%'", max_results=500, page_token=token
        )
        found += page
        token = page.token
        if not token:
            break
    if model is None:
        return found
    return [
        one for one in found if one.name == f"lepton/{model}" or one.name.startswith(f"lepton/{model} (being made ")
    ]
