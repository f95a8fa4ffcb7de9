"""The target `bentoml`: a project that `bentoml build service:Router` builds, without a network."""

from __future__ import annotations

import platform
import pprint
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel

from lepton_bentoml.options import BentomlOptions
from lepton_plugins.embedding import copy_deployment, embedding, files_below, write_packages
from lepton_plugins.errors import InvalidInput, PackageMissing
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.directory import DeploymentDirectory

#: What the service needs beside the core; the server is BentoML's.
_SERVER = ("bentoml", "pandas", "prometheus-client", "starlette", "uvicorn")

_SERVICE = '''"""The router of {model} as a BentoML service. Build it with

    bentoml build service:Router

The versions are BentoML models, put into its store when this module is imported:
{models}
"""

import sys
from pathlib import Path

import bentoml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "packages"))

from lepton_bentoml.service import RouterService

IMAGE = bentoml.images.Image(python_version="{python}", lock_python_packages=False)
IMAGE = IMAGE.python_packages(*(HERE / "requirements.txt").read_text().splitlines())
CONFIG = {config}


@bentoml.service(image=IMAGE, **CONFIG)
class Router(RouterService, deployment=HERE / "deployment"):
    """Typed: predict, decide, predict_batch, predict_array. Mounted: V2 infer, V1 predict, /invocations, feedback.

    BentoML keeps /metrics and /livez: the data plane's own page is /lepton/metrics.
    """
'''

#: The bento has the models as models; its sources needn't have them once more.
_IGNORE = "deployment/models/\n"


class BentomlTarget:
    """Renders `service.py`, `requirements.txt`, the deployment directory and Lepton's packages."""

    Options: type[BaseModel] = BentomlOptions

    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        assert isinstance(options, BentomlOptions)
        for package, install in self.missing().items():  # It tells which keys of the configuration there are.
            raise PackageMissing(package, "The target bentoml", install)
        from lepton_bentoml.config import service_config
        from lepton_bentoml.models import bento_name, model_tag

        if plan.topology != "embedded":
            raise InvalidInput(f"The plan's topology is {plan.topology}; the target bentoml renders embedded ones.")
        opened = DeploymentDirectory.open(directory)
        found = embedding(
            opened,
            also=("bentoml", "cloudevents", "files"),
            needs=_SERVER,
            extra=[line.strip() for line in options.requirements.split(",") if line.strip()],
            lepton_requirement=options.lepton_requirement,
        )
        name = options.name or bento_name(plan.model)[:56].strip("-") + "-router"
        config = service_config(plan, name, options)
        copy_deployment(directory, to / "deployment")
        if options.lepton_requirement is None:
            write_packages(found, to / "packages")
        (to / "requirements.txt").write_text("\n".join(found.requirements) + "\n", encoding="utf-8")
        (to / ".bentoignore").write_text(_IGNORE, encoding="utf-8")
        models = {f"    {model_tag(plan.model, arm, opened.path)}  version {arm.version}" for arm in plan.arms}
        text = _SERVICE.format(
            model=plan.model,
            models="\n".join(sorted(models, key=lambda line: line.rpartition("version ")[2])),
            python=platform.python_version(),
            config=pprint.pformat(config, sort_dicts=True, width=100),
        )
        (to / "service.py").write_text(text, encoding="utf-8")
        return files_below(to)

    def missing(self) -> Mapping[str, str]:
        return {} if find_spec("bentoml") is not None else {"bentoml": "pip install 'lepton-plugins[bentoml]'"}
