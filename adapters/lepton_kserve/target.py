"""The target `kserve`: manifests for a cluster, and what the predictor's image is built from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from lepton_kserve.image import write_image
from lepton_kserve.manifest import inference_service, name_of, namespace_of
from lepton_kserve.options import KserveOptions
from lepton_kserve.plan_map import plan_map
from lepton_kserve.rules import NAME, findings
from lepton_kserve.stores import stores_of
from lepton_kserve.upload import check, upload
from lepton_plugins.canonical import digest_tree
from lepton_plugins.embedding import embedding, files_below
from lepton_plugins.errors import InvalidInput, ManifestInvalid
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.directory import DeploymentDirectory

#: What the data plane needs beside the core.
_SERVER = ("starlette", "uvicorn", "uvloop", "httptools", "prometheus-client")
#: A Service's name has at most 63 characters; KServe appends -predictor.
_LONGEST_NAME = 63 - len("-predictor")


class KserveTarget:
    """Renders `inferenceservice.yaml`, `plan.yaml`, `kustomization.yaml` and `image/`.

    The predictor answers to the plan's model's name, and to the InferenceService's where that is another.
    """

    Options: type[BaseModel] = KserveOptions

    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        assert isinstance(options, KserveOptions)
        if plan.topology != "embedded":
            raise InvalidInput(f"The plan's topology is {plan.topology}; the target kserve renders embedded ones.")
        opened = DeploymentDirectory.open(directory)
        name, namespace = name_of(plan, options), namespace_of(options)
        _check_name(name)
        if options.upload is not None:
            if options.models is not None:
                raise InvalidInput("Found --models and --upload, expected one: --upload says where the models are too.")
            check(options.upload, options.mount)
        found = embedding(
            opened,
            also=("kserve",),
            stores=stores_of(options),
            needs=_SERVER,
            extra=[line.strip() for line in options.requirements.split(",") if line.strip()],
            lepton_requirement=options.lepton_requirement,
        )
        config, volume, mounts = plan_map(plan, opened.policy_files, name, namespace)
        write_image(found, to / "image", options.base_image, embed=options.lepton_requirement is None)
        image = options.image or f"{name}:{digest_tree(to / 'image').removeprefix('sha256:')[:12]}"
        service = inference_service(plan, name, image, volume, mounts, options)
        if refused := findings(service):
            raise ManifestInvalid(refused)
        _write(to / "inferenceservice.yaml", service)
        _write(to / "plan.yaml", config)
        kustomization: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["inferenceservice.yaml", "plan.yaml"],
        }
        if namespace is not None:
            kustomization["namespace"] = namespace
        _write(to / "kustomization.yaml", kustomization)
        if options.upload is not None:
            upload(opened, options.upload, options.mount)
        return files_below(to)

    def missing(self) -> Mapping[str, str]:
        """Rendering needs nothing; building and applying is done with the cluster's own tools."""
        return {}


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise InvalidInput(
            f"InferenceService: found the name {name!r}, expected lower-case letters, digits and '-', a letter "
            f"first, at most {_LONGEST_NAME} characters; give one: --name …"
        )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=True, allow_unicode=True, width=120), encoding="utf-8")
