"""Topology `distributed`: an InferenceService for each version, and one for the router before them.

A version's service runs the data plane on a plan of that version alone; the router's arms are remote. The model's name
that the router asks for has the version's digest in it: a service with other bytes knows no such model.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from lepton_kserve.options import KserveOptions
from lepton_kserve.part import Part
from lepton_kserve.rendering import Rendering
from lepton_kserve.rules import STANDARD_MODES
from lepton_kserve.yours import mode_of, name_of, namespace_of
from lepton_plugins.distribution import Service, fallback_of, services_of, write_router, write_service
from lepton_plugins.errors import InvalidInput
from lepton_plugins.needs import need_of_one, need_of_router
from lepton_plugins.plugins import plugins
from lepton_plugins.routing.backend import ServiceBackend
from lepton_plugins.routing.directory import DeploymentDirectory

FOLDER = "services"
#: Seconds that a version's service may take where the plan sets no time (`around.timeout`).
_TIMEOUT = 30.0
#: What an option says of the router isn't said of its services.
_OF_THE_ROUTER = ("manifest", "cpu", "memory", "min_replicas", "max_replicas")


def render(opened: DeploymentDirectory, to: Path, o: KserveOptions) -> None:
    """Write the router's files into `to`, those of each service into `to`/services/NAME."""
    plan = opened.plan
    router, namespace = name_of(plan, o), namespace_of(o)
    services = {service_name(router, item): item for item in services_of(plan, o.fallback)}
    mode = mode_of(o)
    urls = {name: _url(name, item.arm.version, namespace, mode, o) for name, item in services.items()}
    backend: ServiceBackend = plugins().load("backend", "remote")()
    names = {item.arm.version: name for name, item in services.items()}
    rendering = Rendering(to, o)

    def point(service: Service, folder: Path) -> None:
        name = names[service.arm.version]
        timeout = plan.around.timeout or _TIMEOUT
        backend.point(folder, urls[name], model=alias(name, service), plan=service.plan, timeout=timeout)

    with TemporaryDirectory(prefix="lepton-services-") as temporary:
        folder = Path(temporary) / "router"
        folder.mkdir()
        write_router(opened, tuple(services.values()), folder, point)
        needs = {name: need_of_one(plan, item.arm, o.request_seconds) for name, item in services.items()}
        apart = frozenset(item.arm.artifact_digest for item in services.values())
        local = [arm for arm in plan.arms if arm.artifact_digest not in apart]
        fallback = fallback_of(plan)
        part = Part(
            need=need_of_router(plan, local, list(needs.values())),
            headroom=plan.spec.resources.headroom,
            apart=apart,
            said={"lepton.plan": plan.digest, "lepton.fallback": names.get(fallback, "local")},
        )
        rendering.add("", DeploymentDirectory.open(folder), router, part, o)
        own = o.model_copy(update=dict.fromkeys(_OF_THE_ROUTER) | {"namespace": namespace, "mode": mode})
        for name, item in services.items():
            folder = Path(temporary) / name
            folder.mkdir()
            write_service(opened, item, folder)
            part = Part(
                need=needs[name],
                headroom=plan.spec.resources.headroom,
                router=router,
                alias=alias(name, item),
                said={"lepton.router": router, "lepton.version": item.arm.version},
            )
            image = None if o.image is None else _image(o.image, item.arm.version)
            here = own.model_copy(update={"name": name, "image": image})
            rendering.add(f"{FOLDER}/{name}", DeploymentDirectory.open(folder), name, part, here)
    rendering.finish()


def service_name(router: str, service: Service) -> str:
    """`flights-v3` for version 3 behind the router `flights`."""
    version = re.sub(r"[^a-z0-9]+", "-", service.arm.version.lower()).strip("-")
    return f"{router}-v{version}"


def alias(name: str, service: Service) -> str:
    """What the router calls a service's model: these bytes and no others."""
    return f"{name}-{service.arm.artifact_digest.removeprefix('sha256:')[:16]}"


def _url(name: str, version: str, namespace: str | None, mode: str, o: KserveOptions) -> str:
    """Where the router finds a service: in its own namespace by the name, behind Knative by the whole name."""
    template = o.service_url
    if template is None:
        template = (
            "http://{service}-predictor" if mode in STANDARD_MODES else "http://{service}-predictor.{namespace}.svc"
        )
    if namespace is None and "{namespace}" in template:
        raise InvalidInput(
            "--namespace: found none; the router's addresses need it in Knative mode, or as --service-url says."
        )
    try:
        return template.format(service=name, version=version, namespace=namespace)
    except (KeyError, IndexError, ValueError):
        raise InvalidInput(
            f"--service-url: found {template!r}, expected such as http://{{service}}-predictor.{{namespace}}.svc:8080"
        ) from None


def _image(router: str, version: str) -> str:
    """The image of a version's service beside the router's: flights:1 and flights:1-v3."""
    if "@" in router:
        raise InvalidInput(
            f"--image: found the digest {router}, expected a tag: versions whose packages differ have images of "
            "their own."
        )
    return f"{router}-v{re.sub(r'[^A-Za-z0-9_.-]+', '-', version)}"
