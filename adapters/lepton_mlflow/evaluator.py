"""MLflow's evaluator entry point `lepton`. `import mlflow` loads this module: it must stay cheap and safe.

    mlflow.models.evaluate("models:/flights/3", data, targets="late", model_type="classifier",
                           evaluators="lepton", evaluator_config={"slices": ["carrier"]})

Opt-in only. MLflow asks every registered evaluator whether it can evaluate, also in a plain
`mlflow.models.evaluate`; this one says no there, so that nothing changes by having Lepton installed.
"""

from __future__ import annotations

import sys
from typing import Any

from mlflow.models.evaluation import EvaluationResult, ModelEvaluator


class LeptonEvaluator(ModelEvaluator):
    """Metrics with intervals, overall and by slice, and Lepton's report, on the run.

    `evaluator_config`: `slices`, `context`, `group` (the user column of a ranking), `task` (where
    `model_type` doesn't tell it), `positive`, `level`, `dataset_name`, and `model` with `version` where the
    registered version isn't found by the model's id. Where the model is a registered version, the
    report becomes that version's too.
    """

    @classmethod
    def can_evaluate(cls, *, model_type: str | None, evaluator_config: dict[str, Any] | None, **kwargs: Any) -> bool:
        """Whether somebody asked for Lepton: by its name, or by `{"lepton": {"enabled": True}}`."""
        if (evaluator_config or {}).get("enabled") is True:
            return True
        # A plain evaluation asks while it looks for evaluators, a named evaluator is asked when it is to run.
        # MLflow passes nothing that tells the two apart, so that the caller has to. Whatever isn't known
        # to be the latter counts as the former: then Lepton stays out.
        return sys._getframe(1).f_code.co_name == "_evaluate"

    def evaluate(
        self,
        *,
        model_type: str | None,
        dataset: Any,
        run_id: str,
        evaluator_config: dict[str, Any] | None,
        model: Any = None,
        extra_metrics: Any = None,
        custom_artifacts: Any = None,
        predictions: str | None = None,
        model_id: str | None = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        """Evaluate `model` (or the dataset's predictions) and log the result on run `run_id`.

        Raises MlflowException where it can't be evaluated; the message is Lepton's own.
        """
        from lepton_mlflow.evaluator_run import evaluate_run

        return evaluate_run(
            model_type=model_type,
            dataset=dataset,
            run_id=run_id,
            config={key: value for key, value in (evaluator_config or {}).items() if key != "enabled"},
            model=model,
            model_id=model_id,
        )
