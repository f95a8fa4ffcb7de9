"""What `lepton doctor` and `lepton list` show of a registry."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from typing import TYPE_CHECKING

from lepton_mlflow.access import Access
from lepton_mlflow.description import without_block
from lepton_mlflow.names import PLAN
from lepton_plugins.errors import LeptonError
from lepton_plugins.registry import ModelSummary, RegistryStatus

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

_PAGE = 1000


def status(access: Access) -> RegistryStatus:
    """Never raises: an unreachable registry is a status. `writable` is None where only a write would tell."""
    try:
        with access.doing("read it") as client:
            models = len(_registered(client))
            version = _version(access)
    except LeptonError as error:
        return RegistryStatus(uri=access.shown_uri, reachable=False, detail=str(error))
    except ImportError as error:
        return RegistryStatus(uri=access.shown_uri, reachable=False, detail=f"MLflow can't be imported: {error}")
    writable = None
    if access.sqlite_file is not None:
        file = access.sqlite_file
        writable = (
            not access.opened_read_only and os.access(file, os.W_OK) and os.access(file.absolute().parent, os.W_OK)
        )
    return RegistryStatus(uri=access.shown_uri, reachable=True, version=version, models=models, writable=writable)


def list_models(access: Access) -> list[ModelSummary]:
    """All registered models, by name; prompts aren't models."""
    with access.doing("list the registered models") as client:
        registered = _registered(client)
        numbers = _version_numbers(client)
    return [
        ModelSummary(
            model=model.name,
            versions=len(numbers[model.name]),
            latest=str(max(numbers[model.name])) if numbers[model.name] else None,
            in_force=_in_force(model),
            description=without_block(model.description or "").strip(),
        )
        for model in sorted(registered, key=lambda model: str(model.name))
    ]


def _registered(client: MlflowClient) -> list[RegisteredModel]:
    found: list[RegisteredModel] = []
    token: str | None = None
    while True:
        page = client.search_registered_models(max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _version_numbers(client: MlflowClient) -> dict[str, list[int]]:
    from lepton_mlflow.versions import search

    numbers: dict[str, list[int]] = defaultdict(list)
    for version in search(client, ""):
        numbers[version.name].append(int(version.version))
    return numbers


def _in_force(model: RegisteredModel) -> str | None:
    try:
        value = json.loads((model.tags or {})[PLAN])
        if value["model"] != model.name:
            return None
        return f"#{value['number']} {str(value['digest']).removeprefix('sha256:')[:12]}"
    except (KeyError, TypeError, ValueError):
        return None


def _version(access: Access) -> str:
    """The server's MLflow version, or this process's own where there is no server."""
    import mlflow

    if not access.uri.startswith(("http://", "https://")):
        return str(mlflow.__version__)
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer = http_request(get_default_host_creds(access.uri), "/version", "GET", raise_on_status=False)
    return str(answer.text).strip() if answer.status_code == 200 else "unknown"
