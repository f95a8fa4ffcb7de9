"""`mlflow deployments -t lepton-kserve`. Imported by MLflow only."""

from __future__ import annotations

from functools import partial

from lepton_mlflow.deployments import DeploymentClient, help_for, run_locally

__all__ = ["DeploymentClient", "run_local", "target_help"]

target_help = partial(help_for, "kserve")
run_local = partial(run_locally, "kserve")
