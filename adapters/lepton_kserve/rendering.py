"""The files of one InferenceService: its manifest, its plan's ConfigMap, its claims, what its image is built from."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lepton_kserve.devices import request
from lepton_kserve.image import write_image
from lepton_kserve.manifest import inference_service
from lepton_kserve.options import KserveOptions
from lepton_kserve.part import Part
from lepton_kserve.plan_map import plan_map
from lepton_kserve.rollout import is_knative
from lepton_kserve.rules import NAME, findings
from lepton_kserve.stores import stores_of
from lepton_kserve.yours import namespace_of
from lepton_plugins.canonical import digest_tree
from lepton_plugins.embedding import embedding
from lepton_plugins.errors import InvalidInput, ManifestInvalid
from lepton_plugins.routing.directory import SERVICES, DeploymentDirectory

#: What the data plane needs beside the core.
_SERVER = ("starlette", "uvicorn", "uvloop", "httptools", "prometheus-client")
#: A Service's name has at most 63 characters; KServe appends -predictor.
_LONGEST_NAME = 63 - len("-predictor")


@dataclass(slots=True)
class Rendering:
    """What is rendered into `to`: the manifests by their path there, and the images by the digest of their folder."""

    to: Path
    options: KserveOptions
    manifests: list[str] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)

    def add(self, folder: str, directory: DeploymentDirectory, name: str, part: Part, o: KserveOptions) -> None:
        """Write one InferenceService's files into a folder ("" for `to` itself)."""
        _check_name(name)
        place = self.to / folder
        place.mkdir(parents=True, exist_ok=True)
        image = self._image(place / "image", directory, name, o, stores=part.alias is None)
        namespace = namespace_of(o)
        services = {
            path.relative_to(directory.path).as_posix(): path.read_bytes()
            for path in sorted((directory.path / SERVICES).rglob("*"))
            if path.is_file()
        }
        config, volume, mounts = plan_map(directory.plan, directory.policy_files, name, namespace, services)
        service = inference_service(directory.plan, name, image, volume, mounts, o, part)
        predictor = service["spec"]["predictor"]
        claims = request(predictor, part.need, name, namespace, o, knative=is_knative(service))
        if refused := findings(service):
            raise ManifestInvalid(refused)
        self._write(folder, "inferenceservice.yaml", service)
        self._write(folder, "plan.yaml", config)
        if claims is not None:
            self._write(folder, "resourceclaimtemplate.yaml", claims)

    def finish(self) -> None:
        """Write what names all manifests."""
        kustomization: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": self.manifests,
        }
        namespace = namespace_of(self.options)
        if namespace is not None:
            kustomization["namespace"] = namespace
        _dump(self.to / "kustomization.yaml", kustomization)

    def _image(self, place: Path, directory: DeploymentDirectory, name: str, o: KserveOptions, *, stores: bool) -> str:
        """Write the image's folder, unless one like it is there; the image's name."""
        found = embedding(
            directory,
            also=("kserve",),
            stores=stores_of(o) if stores else (),
            needs=_SERVER,
            extra=[line.strip() for line in o.requirements.split(",") if line.strip()],
            lepton_requirement=o.lepton_requirement,
        )
        write_image(found, place, o.base_image, embed=o.lepton_requirement is None)
        digest = digest_tree(place).removeprefix("sha256:")[:12]
        if digest in self.images:
            shutil.rmtree(place)
        else:
            self.images[digest] = o.image or f"{name}:{digest}"
        return self.images[digest]

    def _write(self, folder: str, name: str, content: Mapping[str, Any]) -> None:
        path = f"{folder}/{name}" if folder else name
        _dump(self.to / path, content)
        self.manifests.append(path)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise InvalidInput(
            f"InferenceService: found the name {name!r}, expected lower-case letters, digits and '-', a letter "
            f"first, at most {_LONGEST_NAME} characters; give one: --name …"
        )


def _dump(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=True, allow_unicode=True, width=120), encoding="utf-8")
