"""The router behind MLflow's model interface."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from operator import methodcaller
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from lepton_mlflow.router_signature import DECISIONS, NO_LIST
from lepton_plugins.errors import InputInvalid, LeptonError, UnknownPlugin
from lepton_plugins.plugins import plugins
from lepton_plugins.routing.inputs import Columns, InputChecker, boxed
from lepton_plugins.routing.router import Router

logger = logging.getLogger("lepton_mlflow")


class RouterModel(PythonModel):
    """Answers with the versions of the deployment directory that is the model's artifact.

    Any number of threads may use it; it pickles as the directory it was loaded from. What is wrong with a
    request is an MlflowException with the code INVALID_PARAMETER_VALUE, anything else INTERNAL_ERROR;
    neither carries a stack trace.
    """

    router: Router | None = None
    _model: Path | None = None
    """The MLflow model that it was loaded from."""

    def load_context(self, context: PythonModelContext) -> None:
        deployment = Path(context.artifacts["deployment"])
        try:
            self.router = Router.load(deployment)
        except UnknownPlugin:
            # It carries the plugin itself, and this process has looked for plugins before it was loaded.
            plugins.cache_clear()
            self.router = Router.load(deployment)
        self._model = next((folder for folder in deployment.parents[:3] if (folder / "MLmodel").is_file()), None)

    def __reduce__(self) -> Any:
        """A Spark worker, or any other process, needn't have Lepton: it loads the model, and with it its code."""
        if self._model is None:
            return super().__reduce__()
        return methodcaller("unwrap_python_model"), (_ModelIn(self._model),)

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> Any:
        """`values` as the data plane's /invocations gives them, or with `lepton_decisions` a table.

        Other `params` are inputs that a request may leave out, alike in all rows.
        """
        router = self.router
        if router is None:
            raise MlflowException("The model isn't loaded: load_context wasn't called.", INTERNAL_ERROR)
        given = {name: value for name, value in (params or {}).items() if value is not None and value != NO_LIST}
        given.pop(DECISIONS, None)
        try:
            prediction = router.predict(_with_parameters(router, model_input, given) if given else model_input)
        except LeptonError as error:
            code = INVALID_PARAMETER_VALUE if error.http_status < 500 else INTERNAL_ERROR
            raise MlflowException(str(error), code) from None
        except Exception:
            logger.exception("the router of %r failed", router.plan.model)
            raise MlflowException("The router failed on this request; its log says why.", INTERNAL_ERROR) from None
        return prediction.table() if (params or {}).get(DECISIONS) else prediction.values


def _with_parameters(router: Router, data: object, given: Mapping[str, Any]) -> Columns:
    """The columns of what MLflow hands over, by the signature's layout, and parameters alike in all rows."""
    columns, rows = InputChecker(router.signature).columns_of(data)
    for name, value in given.items():
        if name in columns:
            raise InputInvalid(name, "it in `params` and among the inputs", "one of them")
        columns[name] = boxed([value] * rows)
    return columns


class _ModelIn:
    """Unpickles as the MLflow model in a directory; naming nothing of Lepton's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return mlflow.pyfunc.load_model, (str(self.folder),)
