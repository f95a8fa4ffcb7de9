"""A model's experiment `lepton/<model>`: where its reports, plans and activations live, and its ledger."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lepton_mlflow.access import Access
from lepton_mlflow.faults import already_exists, is_missing
from lepton_mlflow.ledger import Ledger
from lepton_mlflow.names import EXPERIMENT, KIND, LEDGER, OPENS_ON_RUNS, experiment_name
from lepton_mlflow.undo import AllOrNothing
from lepton_mlflow.upsert import upsert
from lepton_plugins.errors import ModelNotFound, RecordDeleted

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True, slots=True)
class Home:
    """The experiment of one model. `ledger` is the id of the run that holds its ledger."""

    experiment_id: str
    ledger: Ledger


def find_home(client: MlflowClient, model: str) -> Home | None:
    """The model's experiment, None if Lepton has written nothing about it yet."""
    experiment = client.get_experiment_by_name(experiment_name(model))
    if experiment is None or LEDGER not in experiment.tags:
        return None
    if experiment.lifecycle_stage == "deleted":
        raise RecordDeleted(
            f"The experiment {experiment.name!r}, which holds the reports and plans of {model!r},",
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}",
        )
    return Home(experiment.experiment_id, Ledger(client, experiment.tags[LEDGER]))


def make_home(access: Access, client: MlflowClient, model: str) -> Home:
    """The model's experiment, made if there is none.

    Of two processes that make it at once both must get the same ledger, so the experiment appears
    under its name only when it is complete: it is made under a name of its own, gets its ledger, and is
    then renamed, which the database lets succeed once (experiments' names are unique).

    First the registered model gets a tag: a registry that may not be written to refuses that, and
    nothing was written.
    """
    tagged = require_writable(client, model)
    if (home := find_home(client, model)) is not None:
        return home
    with AllOrNothing() as undo:
        if not tagged:
            undo.by(lambda: client.delete_registered_model_tag(model, EXPERIMENT))
        name = experiment_name(model)
        making = f"{name} (being made {uuid.uuid4().hex[:12]})"
        experiment_id = client.create_experiment(
            making,
            artifact_location=artifact_location(access, client, f"lepton-{model}"),
            tags={
                **OPENS_ON_RUNS,
                KIND: "home",
                "mlflow.note.content": f"What Lepton knows of the registered model {model!r}.",
            },
        )
        undo.by(lambda: client.delete_experiment(experiment_id))
        run = client.create_run(experiment_id, run_name="ledger", tags={KIND: "ledger"})
        client.set_tag(run.info.run_id, "mlflow.note.content", _LEDGER_NOTE, synchronous=True)
        client.set_terminated(run.info.run_id)
        client.set_experiment_tag(experiment_id, LEDGER, run.info.run_id)
        try:
            client.rename_experiment(experiment_id, name)
        except Exception as error:
            if not already_exists(error):
                raise
            client.delete_experiment(experiment_id)
            home = find_home(client, model)
            if home is None:
                raise
            return home
    return Home(experiment_id, Ledger(client, run.info.run_id))


_LEDGER_NOTE = (
    "Which plans and activations there are, in order: one param each, and MLflow writes a param once. "
    "Lepton reads this run; don't delete it."
)


def discard_experiment(client: MlflowClient, experiment_id: str, name: str) -> None:
    """Delete an experiment under another name: MLflow keeps the names of deleted ones taken."""
    client.rename_experiment(experiment_id, f"{name} (removed {experiment_id})")
    client.delete_experiment(experiment_id)


def require_writable(client: MlflowClient, model: str) -> bool:
    """Write a harmless tag on the registered model; True if it was there before. ModelNotFound if no model is."""
    found = get_registered_model(client, model)
    upsert(lambda: client.set_registered_model_tag(model, EXPERIMENT, experiment_name(model)))
    return EXPERIMENT in (found.tags or {})


def get_registered_model(client: MlflowClient, model: str):  # type: ignore[no-untyped-def]
    """MLflow's registered model, or ModelNotFound with the nearest name."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(model)
    except MlflowException as error:
        if not is_missing(error):
            raise
        known = [found.name for found in client.search_registered_models(max_results=100)]
        raise ModelNotFound(model, known) from None


def artifact_location(access: Access, client: MlflowClient, stem: str) -> str | None:
    """Where a new experiment's artifacts go; None leaves it to the server.

    Without a server MLflow would put them below whatever directory this process happens to run in. They
    belong where the database's other artifacts are: beside those of its default experiment.
    """
    if access.sqlite_file is None:
        return None
    default = client.get_experiment("0").artifact_location
    if urlsplit(default).scheme not in ("", "file"):
        return None
    slug = re.sub(r"[^\w.-]", "-", stem)[:60]
    return f"{default.rstrip('/').rpartition('/')[0]}/{slug}-{uuid.uuid4().hex[:8]}"
