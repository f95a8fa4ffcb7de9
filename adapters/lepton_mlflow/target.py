"""The target `mlflow`: a model from code that embeds the deployment directory, and Lepton with it."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from lepton_plugins.canonical import digest_tree
from lepton_plugins.embedding import copy_deployment, embedding, files_below, write_packages
from lepton_plugins.errors import ModelNotFound, RegistryUnreachable
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.record import Record
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.routing.directory import DeploymentDirectory

CODE = "code"
MODEL_CODE = "router_model.py"
DEPLOYMENT = "artifacts/deployment"

_MODEL_CODE = '''"""The router as an MLflow model; its versions and its plan are in artifacts/deployment."""

from lepton_mlflow.router_model import RouterModel
from mlflow.models import set_model

set_model(RouterModel())
'''


class MlflowOptions(Record):
    """What the flags of `lepton generate --target mlflow` say."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    registered: bool = Field(default=False, alias="register")
    """Register what was rendered as NAME-router, unless its newest version is just that."""
    register_as: str | None = Field(default=None, min_length=1)
    """Register it under another name."""
    registry: str | None = None
    """The registry to register in (default: the one that the plan is from)."""
    lepton_requirement: str | None = None
    """A requirement such as lepton-plugins==0.1.0, instead of embedding Lepton's packages."""
    requirements: str = ""
    """Further requirements, separated by commas."""


class MlflowTarget:
    """Renders an MLflow model directory. The bytes depend on the deployment and the packages installed here."""

    Options: type[BaseModel] = MlflowOptions

    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        assert isinstance(options, MlflowOptions)
        extra = [line.strip() for line in options.requirements.split(",") if line.strip()]
        found = embedding(
            DeploymentDirectory.open(directory),
            also=("mlflow",),
            needs=("mlflow", "pandas"),
            extra=extra,
            lepton_requirement=options.lepton_requirement,
        )
        copy_deployment(directory, to / DEPLOYMENT)
        if options.lepton_requirement is None:
            write_packages(found, to / CODE)
        (to / MODEL_CODE).write_text(_MODEL_CODE, encoding="utf-8")
        _write_environment(to, found.requirements)
        _write_yaml(to / "MLmodel", _mlmodel(plan, embedded=options.lepton_requirement is None))
        return files_below(to)

    def finish(self, plan: DeploymentPlan, rendered: Path, to: Path, options: BaseModel) -> Mapping[str, str]:
        """Register it if that was asked for; tells its name, and how it is served."""
        assert isinstance(options, MlflowOptions)
        told, where = {}, shlex.quote(str(to))
        name = options.register_as or (f"{plan.model}-router" if options.registered else None)
        if name is not None:
            told["registered"] = register_router(name, rendered, plan, options.registry).uri
            where = shlex.quote(told["registered"])
        told["next"] = f"mlflow models serve -m {where} --env-manager local"
        if untyped := [field.name for field in plan.signature.inputs if field.dtype == "object"]:
            told["note"] = (
                f"the type of {', '.join(untyped)} isn't known, so MLflow's server takes JSON but no CSV; "
                "evaluate with it as --context for it to be known"
            )
        return told

    def missing(self) -> Mapping[str, str]:
        lacks = find_spec("mlflow") is None
        return {"mlflow": "pip install 'lepton-plugins[mlflow]'"} if lacks else {}


def register_router(name: str, directory: Path, plan: DeploymentPlan, registry: str | None = None) -> ModelVersion:
    """Register a rendered router; returns the newest version as it is if that has the same files."""
    from lepton_plugins.api import ModelRegistry

    models = ModelRegistry(registry)
    with suppress(ModelNotFound, RegistryUnreachable):  # Registering makes what isn't there yet.
        for newest in list(models.list_versions(name))[-1:]:
            if newest.artifact_digest == digest_tree(directory):
                return newest
    description = f"Router of {plan.model}: plan {plan.digest.removeprefix('sha256:')[:12]}"
    return models.register_model(name, directory, model_metadata={"description": description})


def _mlmodel(plan: DeploymentPlan, *, embedded: bool) -> dict[str, Any]:
    """The content of MLmodel, without what MLflow adds of its own: the time, an id, a size.

    Source: MLflow 3's "Model storage format"; the flavour's keys are those of `mlflow.pyfunc.save_model`
    with models from code.
    """
    from mlflow.version import VERSION

    from lepton_mlflow.router_signature import router_signature

    flavor: dict[str, Any] = {
        "artifacts": {"deployment": {"path": DEPLOYMENT}},
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": "mlflow.pyfunc.model",
        "model_code_path": MODEL_CODE,
        "python_version": platform.python_version(),
        "streamable": False,
    }
    if embedded:
        flavor["code"] = CODE
    return {
        "flavors": {"python_function": flavor},
        "is_signature_from_type_hint": False,
        "metadata": {"lepton_model": plan.model, "lepton_plan": plan.digest},
        "mlflow_version": VERSION,
        "signature": router_signature(plan).to_dict(),
        "type_hint_from_example": False,
    }


def _write_environment(to: Path, requirements: Sequence[str]) -> None:
    """The three files in which MLflow keeps a model's environment."""
    python = platform.python_version()
    (to / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    _write_yaml(to / "python_env.yaml", {"python": python, "dependencies": ["-r requirements.txt"]})
    packages: list[Any] = [f"python={python}", "pip", {"pip": list(requirements)}]
    _write_yaml(to / "conda.yaml", {"name": "lepton-router", "channels": ["conda-forge"], "dependencies": packages})


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=True, allow_unicode=True, width=120), encoding="utf-8")
