"""The target `kserve`: manifests for a cluster, and what the predictors' images are built from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel

from lepton_kserve import services
from lepton_kserve.options import KserveOptions
from lepton_kserve.part import Part
from lepton_kserve.rendering import Rendering
from lepton_kserve.upload import check, upload
from lepton_kserve.yours import name_of
from lepton_plugins.embedding import files_below
from lepton_plugins.errors import InvalidInput
from lepton_plugins.needs import need_of_all
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.directory import DeploymentDirectory


class KserveTarget:
    """Renders `inferenceservice.yaml`, `plan.yaml`, `kustomization.yaml` and `image/`.

    With topology distributed that is the router, and `services/NAME/` has the like for each version. The predictor
    answers to the plan's model's name, and to the InferenceService's where that is another.
    """

    Options: type[BaseModel] = KserveOptions

    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        assert isinstance(options, KserveOptions)
        opened = DeploymentDirectory.open(directory)
        if options.upload is not None:
            if options.models is not None:
                raise InvalidInput("Found --models and --upload, expected one: --upload says where the models are too.")
            check(options.upload, options.mount)
        if plan.topology == "distributed":
            services.render(opened, to, options)
        else:
            _check_embedded(options)
            rendering = Rendering(to, options)
            part = Part(
                need=need_of_all(plan), headroom=plan.spec.resources.headroom, said={"lepton.plan": plan.digest}
            )
            rendering.add("", opened, name_of(plan, options), part, options)
            rendering.finish()
        if options.upload is not None:
            upload(opened, options.upload, options.mount)
        return files_below(to)

    def finish(self, plan: DeploymentPlan, rendered: Path, to: Path, options: BaseModel) -> Mapping[str, str]:
        """Build and push each image, then apply all."""
        assert isinstance(options, KserveOptions)
        commands, told = [], {}
        for folder in sorted(rendered.rglob("image")):
            manifest = folder.parent / "inferenceservice.yaml"
            if manifest.is_file():
                service = yaml.safe_load(manifest.read_text(encoding="utf-8"))
                image = shlex.quote(service["spec"]["predictor"]["containers"][0]["image"])
                place = shlex.quote(str(to / folder.relative_to(rendered)))
                commands += [f"docker build -t {image} {place}", f"docker push {image}"]
        if options.base_image is None and any(arm.resources.gpu for arm in plan.arms):
            told["note"] = "versions run on GPUs, and the images build on Python's, which has no CUDA: --base-image"
        return {"next": " && ".join([*commands, f"kubectl apply -k {shlex.quote(str(to))}"]), **told}

    def missing(self) -> Mapping[str, str]:
        """Rendering needs nothing; building and applying is done with the cluster's own tools."""
        return {}


def _check_embedded(o: KserveOptions) -> None:
    """What only services have must not be asked for in vain."""
    asked = "--service-url" if o.service_url is not None else "--fallback local" if o.fallback == "local" else None
    if asked is not None:
        raise InvalidInput(
            f"{asked}: the plan's topology is embedded, all versions in one process; expected distributed."
        )
