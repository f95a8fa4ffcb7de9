"""The target `bentoml`: a project that `bentoml build service:Router` builds, without a network."""

from __future__ import annotations

import platform
import pprint
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel

from lepton_bentoml.options import BentomlOptions, service_config
from lepton_plugins.embedding import copy_deployment, embedding, files_below, write_packages
from lepton_plugins.errors import InvalidInput
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.directory import DeploymentDirectory

#: What the data plane needs beside the core; the server is BentoML's.
_SERVER = ("bentoml", "starlette", "uvicorn", "prometheus-client")

_SERVICE = '''"""The router of {model} as a BentoML service: the data plane is mounted at /. Build it with

    bentoml build service:Router
"""

import os
import sys
from pathlib import Path

import bentoml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "packages"))

from lepton_plugins.serving.app import create_app
from lepton_plugins.serving.settings import ServingSettings, token_from

IMAGE = bentoml.images.Image(python_version="{python}", lock_python_packages=False)
IMAGE = IMAGE.python_packages(*(HERE / "requirements.txt").read_text().splitlines())
CONFIG = {config}

# Reached from anywhere: admin routes and forcing a version ask for the token, LEPTON_TOKEN.
app = create_app(HERE / "deployment", ServingSettings(host="0.0.0.0", token=token_from(os.environ)))


@bentoml.service(image=IMAGE, **CONFIG)
@bentoml.asgi_app(app, path="/")
class Router:
    """V2 infer, V1 predict, /invocations, feedback; BentoML keeps /metrics and /livez: see /lepton/metrics."""
'''


class BentomlTarget:
    """Renders `service.py`, `requirements.txt`, the deployment directory and Lepton's packages."""

    Options: type[BaseModel] = BentomlOptions

    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        assert isinstance(options, BentomlOptions)
        if plan.topology != "embedded":
            raise InvalidInput(f"The plan's topology is {plan.topology}; the target bentoml renders embedded ones.")
        found = embedding(
            DeploymentDirectory.open(directory),
            also=("bentoml",),
            needs=_SERVER,
            extra=[line.strip() for line in options.requirements.split(",") if line.strip()],
            lepton_requirement=options.lepton_requirement,
        )
        name = options.name or re.sub(r"[^a-z0-9]+", "-", plan.model.lower()).strip("-") + "-router"
        copy_deployment(directory, to / "deployment")
        if options.lepton_requirement is None:
            write_packages(found, to / "packages")
        (to / "requirements.txt").write_text("\n".join(found.requirements) + "\n", encoding="utf-8")
        config = pprint.pformat(service_config(plan, name, options), sort_dicts=True, width=100)
        python = ".".join(platform.python_version_tuple()[:2])
        text = _SERVICE.format(model=plan.model, python=python, config=config)
        (to / "service.py").write_text(text, encoding="utf-8")
        return files_below(to)

    def missing(self) -> Mapping[str, str]:
        return {} if find_spec("bentoml") is not None else {"bentoml": "pip install 'lepton-plugins[bentoml]'"}
