"""Runs that Lepton writes: what they are, whose, of which model, and what people read of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lepton_mlflow.names import KIND, RUN_TAG_LIMIT
from lepton_plugins.user_name import user_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def create_run(
    client: MlflowClient, experiment_id: str, kind: str, *, model: str, name: str, note: str, tags: dict[str, str]
) -> Run:
    """A run of a `kind` ("plan", "evaluation", "activation"); `note` is the text on its page, cut to MLflow's limit."""
    own = {
        KIND: kind,
        "mlflow.user": user_name(),
        "mlflow.note.content": note[:RUN_TAG_LIMIT],
        "lepton.model": model,
    }
    return client.create_run(experiment_id, run_name=name, tags=own | tags)
