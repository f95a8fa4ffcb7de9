"""The target `bentoml`: a project that `bentoml build service:Router` builds, without a network."""

from __future__ import annotations

import platform
import pprint
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel

from lepton_bentoml.backend import Depended
from lepton_bentoml.options import BentomlOptions
from lepton_plugins.distribution import Service, services_of, write_router, write_service
from lepton_plugins.embedding import copy_deployment, embedding, files_below, write_packages
from lepton_plugins.errors import InvalidInput, PackageMissing
from lepton_plugins.needs import need_of_all, need_of_one, need_of_router
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.directory import DeploymentDirectory

#: What the service needs beside the core; the server is BentoML's.
_SERVER = ("bentoml", "pandas", "prometheus-client", "starlette", "uvicorn")

_HEAD = '''"""The router of {model} as a BentoML service. Build it with

    bentoml build service:Router

The versions are BentoML models, put into its store when this module is imported:
{models}
"""

import sys
from pathlib import Path

import bentoml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "packages"))

from lepton_bentoml.bounding import bounded
from lepton_bentoml.service import RouterService
{versions}
IMAGE = bentoml.images.Image({base}python_version="{python}", lock_python_packages=False)
IMAGE = IMAGE.python_packages(*(HERE / "requirements.txt").read_text().splitlines())
'''

_VERSION = '''CONFIG_{place} = {config}


@bentoml.service(image=IMAGE, **CONFIG_{place})
class Version{place}(VersionService, deployment=HERE / "versions" / "{place}"):
    """Version {version}, for the router."""


'''

_ROUTER = '''CONFIG = {config}


@bounded
@bentoml.service(image=IMAGE, **CONFIG)
class Router(RouterService, deployment=HERE / "deployment"):
    """Typed: predict, decide, predict_batch, predict_array. Mounted: V2 infer, V1 predict, /invocations, feedback.

    BentoML keeps /metrics and /livez: the data plane's own page is /lepton/metrics.
    """
{services}'''

#: The bento has the models as models; its sources needn't have them once more.
_IGNORE = "deployment/models/\nversions/*/models/\n"


class BentomlTarget:
    """Renders `service.py`, `requirements.txt`, the deployment directory and Lepton's packages.

    With topology distributed, a service for each version too (`versions/`), on which the router's depends.
    """

    Options: type[BaseModel] = BentomlOptions

    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        assert isinstance(options, BentomlOptions)
        for package, install in self.missing().items():  # It tells which keys of the configuration there are.
            raise PackageMissing(package, "The target bentoml", install)
        from lepton_bentoml.config import service_config
        from lepton_bentoml.models import bento_name, model_tag

        opened = DeploymentDirectory.open(directory)
        found = embedding(  # BentoML builds one image for all services of a bento.
            opened,
            also=("bentoml", "cloudevents", "files"),
            # Where only these requirements are installed `bentoml build` would fetch uv over the network.
            needs=(*_SERVER, "uv") if find_spec("uv") is not None else _SERVER,
            extra=[line.strip() for line in options.requirements.split(",") if line.strip()],
            lepton_requirement=options.lepton_requirement,
        )
        name = options.name or bento_name(plan.model)[:56].strip("-") + "-router"
        text = _HEAD.format(
            model=plan.model,
            models="\n".join(
                f"    {model_tag(plan.model, arm, opened.path)}  version {arm.version}" for arm in plan.arms
            ),
            versions="from lepton_bentoml.version import VersionService\n" if plan.topology == "distributed" else "",
            base="" if options.base_image is None else f"base_image={options.base_image!r}, ",
            python=platform.python_version(),
        )
        if plan.topology == "distributed":
            text += _apart(opened, to, name, options)
        else:
            if options.fallback == "local":
                raise InvalidInput(
                    "--fallback local: the plan's topology is embedded, all versions in one process; expected "
                    "distributed."
                )
            copy_deployment(directory, to / "deployment")
            text += _ROUTER.format(config=_code(service_config(need_of_all(plan), name, options)), services="")
        if options.lepton_requirement is None:
            write_packages(found, to / "packages")
        (to / "requirements.txt").write_text("\n".join(found.requirements) + "\n", encoding="utf-8")
        (to / ".bentoignore").write_text(_IGNORE, encoding="utf-8")
        (to / "service.py").write_text(text, encoding="utf-8")
        return files_below(to)

    def finish(self, plan: DeploymentPlan, rendered: Path, to: Path, options: BaseModel) -> Mapping[str, str]:
        told = {"next": f"cd {shlex.quote(str(to))} && bentoml build service:Router"}
        if find_spec("uv") is None and shutil.which("uv") is None:
            told["note"] = "`bentoml build` installs uv, over the network, where it is missing: pip install uv"
        assert isinstance(options, BentomlOptions)
        if options.base_image is None and any(arm.resources.gpu for arm in plan.arms):
            told["gpu"] = "versions run on GPUs, and the image builds on Python's, which has no CUDA: --base-image"
        return told

    def missing(self) -> Mapping[str, str]:
        return {} if find_spec("bentoml") is not None else {"bentoml": "pip install 'lepton-plugins[bentoml]'"}


def _apart(opened: DeploymentDirectory, to: Path, name: str, o: BentomlOptions) -> str:
    """Write the deployment directories of the router and of each version's service; the code of all these services."""
    from lepton_bentoml.config import service_configs
    from lepton_bentoml.models import bento_name

    plan = opened.plan
    services = services_of(plan, o.fallback)
    places = {service.arm.version: re.sub(r"[^A-Za-z0-9]", "_", service.arm.version) for service in services}
    names = {version: f"{name}-v{bento_name(version)}" for version in places}
    needs = {service.arm.version: need_of_one(plan, service.arm) for service in services}
    digests = {service.arm.artifact_digest for service in services}
    local = [arm for arm in plan.arms if arm.artifact_digest not in digests]
    router, versions = service_configs(
        (name, need_of_router(plan, local, list(needs.values()))),
        {version: (names[version], needs[version]) for version in places},
        o,
    )

    def point(service: Service, folder: Path) -> None:
        found = Depended(service=names[service.arm.version], signature=service.plan.signature, classes=plan.classes)
        found.write(folder)

    (to / "deployment").mkdir()
    write_router(opened, services, to / "deployment", point)
    text = []
    for service in services:
        version = service.arm.version
        folder = to / "versions" / places[version]
        folder.mkdir(parents=True)
        write_service(opened, service, folder)
        text.append(_VERSION.format(place=places[version], version=version, config=_code(versions[version])))
    depends = [f"    version_{place} = bentoml.depends(Version{place})\n" for place in places.values()]
    return "".join([*text, _ROUTER.format(config=_code(router), services="\n" + "".join(depends))])


def _code(config: Mapping[str, object]) -> str:
    return pprint.pformat(config, sort_dicts=True, width=100)
