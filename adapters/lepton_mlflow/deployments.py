"""`mlflow deployments` for every target that deploys: MLflow's calls and errors to those of its deployer and back.

MLflow wants a module for each of its targets, with a client class, `target_help` and `run_local`; a target T's is

    from functools import partial

    from lepton_mlflow.deployments import DeploymentClient, help_for, run_locally

    target_help = partial(help_for, "T")
    run_local = partial(run_locally, "T")

and the entry point `lepton-T` of the group `mlflow.deployments` names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow.deployments import BaseDeploymentClient

from lepton_mlflow.deployable import deployment_of, refusals
from lepton_plugins.deployer import open_deployer
from lepton_plugins.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

FLAVOR = "lepton"
_PREFIX = "lepton-"

_MODEL = """
-m models:/NAME/plan (the plan in force of NAME), models:/NAME-router/1 (a router that `lepton generate --target mlflow`
registered), or a path to either. -C revision=4: of models:/NAME/plan, another plan than the one in force.
"""


def help_for(target: str) -> str:
    """What `mlflow deployments help -t lepton-TARGET` prints."""
    with refusals():
        return open_deployer(target).help + _MODEL


def run_locally(
    target: str, name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, Any] | None = None
) -> None:
    """`mlflow deployments run-local`: serve on this machine until interrupted."""
    with refusals(), _called(model_uri, config) as (deployment, options):
        open_deployer(target).run_local(name, deployment, options)


class DeploymentClient(BaseDeploymentClient):
    """The deployments of the target after `lepton-` in the target URI, such as `lepton-kserve:/NAMESPACE`."""

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)  # type: ignore[no-untyped-call]
        target, _, place = target_uri.partition(":")
        with refusals():
            self._deployer = open_deployer(target.removeprefix(_PREFIX), place.strip("/"))

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Deploy under a new name and wait until it is ready."""
        with refusals(), _called(model_uri, config) as (deployment, options):
            return _told(self._deployer.create(name, deployment, options))

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Put another plan, or the same with other options, in its place."""
        with refusals():
            if model_uri is None:
                raise InvalidInput("update needs -m: the options apply to a plan. Name it again: -m models:/NAME/plan")
            with _called(model_uri, config) as (deployment, options):
                return _told(self._deployer.update(name, deployment, options))

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """Take it away; one that isn't there is no error."""
        with refusals():
            self._deployer.delete(name, _texts(config))

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """What is known of each."""
        with refusals():
            return [_told(found) for found in self._deployer.list()]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """What is known of it: its name, and what its deployer tells."""
        with refusals():
            return _told(self._deployer.get(name))

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> pd.DataFrame:
        """Answers to a DataFrame, or a dict of columns: a row each, in the column `predictions`."""
        import pandas as pd

        table = inputs if isinstance(inputs, pd.DataFrame) else pd.DataFrame(inputs)
        instances = json.loads(table.to_json(orient="records", date_format="iso"))
        with refusals():
            return pd.DataFrame({"predictions": self._deployer.predict(str(deployment_name), instances)})


@contextmanager
def _called(model_uri: str, config: Mapping[str, Any] | None) -> Iterator[tuple[Callable[[], Path], Mapping[str, str]]]:
    """What leads to the deployment directory of a model URI while the block lasts, and the deployer's options."""
    options = _texts(config)
    revision = options.pop("revision", "") or None
    with TemporaryDirectory(prefix="lepton-") as folder:
        yield lambda: deployment_of(model_uri, Path(folder), revision), options


def _texts(config: Mapping[str, Any] | None) -> dict[str, str]:
    """Options as the command line gives them; in Python they may be numbers."""
    return {key: str(value) for key, value in (config or {}).items()}


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    """As MLflow shows a deployment: with a flavour, which its command line names."""
    return {"name": found["name"], "flavor": FLAVOR, **found}
