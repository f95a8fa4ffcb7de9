"""The router behind MLflow's model interface."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from lepton_mlflow.router_signature import DECISIONS
from lepton_plugins.errors import LeptonError
from lepton_plugins.routing.prediction import Prediction
from lepton_plugins.routing.router import Router

logger = logging.getLogger("lepton_mlflow")


class RouterModel(PythonModel):
    """Answers with the versions of the deployment directory that is the model's artifact.

    Any number of threads may use it; it pickles as the directory it was loaded from. What is wrong with a
    request is an MlflowException with the code INVALID_PARAMETER_VALUE, anything else INTERNAL_ERROR;
    neither carries a stack trace.
    """

    router: Router | None = None

    def load_context(self, context: PythonModelContext) -> None:
        self.router = Router.load(context.artifacts["deployment"])

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> Any:
        """`values` as the data plane's /invocations gives them, or with `lepton_decisions` a table."""
        router = self.router
        if router is None:
            raise MlflowException("The model isn't loaded: load_context wasn't called.", INTERNAL_ERROR)
        try:
            prediction = router.predict(model_input)
        except LeptonError as error:
            code = INVALID_PARAMETER_VALUE if error.http_status < 500 else INTERNAL_ERROR
            raise MlflowException(str(error), code) from None
        except Exception:
            logger.exception("the router of %r failed", router.plan.model)
            raise MlflowException("The router failed on this request; its log says why.", INTERNAL_ERROR) from None
        return decision_table(prediction) if (params or {}).get(DECISIONS) else prediction.values


def decision_table(prediction: Prediction) -> pd.DataFrame:
    """One row a row: the answer (`prediction`, or `proba_<class>`), and who gave it and why."""
    values = prediction.values
    columns: dict[str, Any] = {}
    if values.ndim == 2:
        names = prediction.classes or [str(index) for index in range(values.shape[1])]
        columns = {f"proba_{name}": values[:, index] for index, name in enumerate(names)}
    else:
        columns["prediction"] = values
    decisions = prediction.decisions
    columns["lepton_version"] = [decision.served for decision in decisions]
    columns["lepton_chosen"] = [decision.chosen for decision in decisions]
    columns["lepton_propensity"] = np.array(
        [decision.propensity[prediction.block.arms.index(decision.chosen)] for decision in decisions], dtype=np.float64
    )
    columns["lepton_segment"] = [decision.segment for decision in decisions]
    columns["lepton_reason"] = [decision.reason for decision in decisions]
    columns["lepton_decision"] = [decision.id for decision in decisions]
    return pd.DataFrame(columns)
