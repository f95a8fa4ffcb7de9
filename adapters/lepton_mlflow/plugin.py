"""What Lepton offers for MLflow: the registry, the backend that runs any pyfunc, the target."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import BackendOffer, RegistryOffer, TargetOffer

_INSTALL = "pip install 'lepton-plugins[mlflow]'"


@hookimpl
def lepton_registries() -> list[RegistryOffer]:
    return [
        RegistryOffer(
            name="mlflow",
            summary="MLflow's model registry: versions, reports, plans and the audit trail",
            target="lepton_mlflow.registry:MlflowRegistry",
            schemes=("sqlite", "http", "https", "file", "postgresql", "mysql", "mssql", "databricks", "databricks-uc"),
            requires=("mlflow",),
            install=_INSTALL,
        )
    ]


@hookimpl
def lepton_backends() -> list[BackendOffer]:
    return [
        BackendOffer(
            name="pyfunc",
            summary="Any MLflow flavour, through mlflow.pyfunc",
            target="lepton_mlflow.backend:PyfuncBackend",
            requires=("mlflow",),
            install=_INSTALL,
            priority=0,
            own_environment=True,
        )
    ]


@hookimpl
def lepton_targets() -> list[TargetOffer]:
    return [
        TargetOffer(
            name="mlflow",
            summary="An MLflow model that embeds the router: mlflow models serve, load_model, spark_udf",
            target="lepton_mlflow.target:MlflowTarget",
            requires=("mlflow",),
            install=_INSTALL,
        )
    ]
