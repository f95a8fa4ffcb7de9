"""The alias of the default arm of the plan in force. It is derived: Lepton sets it, nobody reads it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lepton_mlflow.experiments import get_registered_model
from lepton_mlflow.faults import is_missing
from lepton_mlflow.names import CHAMPION
from lepton_mlflow.upsert import upsert

if TYPE_CHECKING:
    from mlflow import MlflowClient


def set_champion(client: MlflowClient, model: str, version: str, *, dry_run: bool = False) -> str | None:
    """Point the alias at a version; tells what it was if it was wrong. A version that was deleted keeps none."""
    from mlflow.exceptions import MlflowException

    aliases = get_registered_model(client, model).aliases or {}
    found = str(aliases[CHAMPION]) if CHAMPION in aliases else None
    if found == version:
        return None
    if not dry_run:
        try:
            upsert(lambda: client.set_registered_model_alias(model, CHAMPION, version))
        except MlflowException as error:
            if not is_missing(error):
                raise
    return f"alias {CHAMPION} of {model!r} was {f'version {found}' if found else 'missing'}, expected version {version}"
