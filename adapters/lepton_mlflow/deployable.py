"""What `mlflow deployments` is given: the deployment behind a model URI, and errors as its users expect them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from lepton_mlflow.quiet import quiet
from lepton_mlflow.target import DEPLOYMENT
from lepton_plugins.errors import InvalidInput, LeptonError, NotARouter
from lepton_plugins.routing.directory import PLAN

_IN_FORCE = re.compile(r"models:/([^/@]+)(?:/plan)?/?")

_CODES = {
    401: codes.UNAUTHENTICATED,
    403: codes.PERMISSION_DENIED,
    404: codes.RESOURCE_DOES_NOT_EXIST,
    409: codes.RESOURCE_CONFLICT,
    503: codes.TEMPORARILY_UNAVAILABLE,
    504: codes.DEADLINE_EXCEEDED,
}


class Refused(MlflowException, click.ClickException):  # type: ignore[misc]  # Both have a `message`.
    """An MlflowException in Python, one line and exit code 1 on MLflow's command line."""

    def __init__(self, error: LeptonError) -> None:
        MlflowException.__init__(self, str(error), _CODES.get(error.http_status, codes.INVALID_PARAMETER_VALUE))

    def __str__(self) -> str:
        return str(self.message)


@contextmanager
def refusals() -> Iterator[None]:
    """Lepton's errors leave as MLflow's."""
    try:
        yield
    except LeptonError as error:
        raise Refused(error) from None


def deployment_of(model_uri: str, folder: Path, revision: str | None = None) -> Path:
    """The deployment directory that a model URI stands for, made below `folder` unless it is here.

    `models:/NAME/plan` (or `models:/NAME`) is the plan in force of NAME, or its `revision`; any other URI, such
    as `models:/NAME-router/1` or a path, must lead to a router that `lepton generate --target mlflow` rendered,
    or to a deployment directory. NotARouter, ModelNotFound, PlanNotFound.
    """
    named = _IN_FORCE.fullmatch(model_uri)
    if revision is not None and named is None:
        raise InvalidInput(f"-C revision={revision} goes with -m models:/NAME/plan; found -m {model_uri}.")
    path = Path(model_uri.removeprefix("file://"))
    for found in (path, path / DEPLOYMENT):
        if (found / PLAN).is_file():
            return found
    if named is not None:
        from lepton_plugins.api import ModelRegistry

        return ModelRegistry().pull(named[1], folder / "deployment", revision=revision)
    return _embedded(model_uri, folder)


def _embedded(model_uri: str, folder: Path) -> Path:
    """The deployment directory inside a router's MLflow model."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with quiet():
        try:
            repository = get_artifact_repository(model_uri)
            if not any(item.path == f"{DEPLOYMENT}/{PLAN}" for item in repository.list_artifacts(DEPLOYMENT)):
                raise NotARouter(model_uri)
            return Path(repository.download_artifacts(DEPLOYMENT, dst_path=str(folder)))
        except LeptonError:
            raise
        except Exception as error:
            raise NotARouter(model_uri, " ".join(str(error).split())[:300]) from None
