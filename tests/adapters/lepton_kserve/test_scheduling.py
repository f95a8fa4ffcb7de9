"""Node pools of a plan in the manifest: where the predictor runs, and how it grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lepton_kserve.manifest import inference_service
from lepton_kserve.options import KserveOptions
from lepton_kserve.part import Part
from lepton_kserve.rules import RULES
from lepton_plugins.needs import need_of_all
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.resources import ResourceSpec
from lepton_plugins.routing.directory import DeploymentDirectory

POOL = {
    "nodes": 5,
    "cpu": 4,
    "memory": "16Gi",
    "labels": {"pool": "small"},
    "tolerations": [{"key": "serving", "operator": "Exists", "effect": "NoSchedule"}],
}


@pytest.fixture
def plan(deployment: Path) -> DeploymentPlan:
    """The deployment's plan as two replicas on a pool of five nodes would be."""
    found = DeploymentDirectory.open(deployment).plan
    resources = ResourceSpec.model_validate(
        {"pools": {"small": POOL}, "load": "300/s", "batch": 3, "headroom": 0.25, "survive": "node"}
    )
    arms = tuple(
        arm.model_copy(
            update={
                "resources": arm.resources.model_copy(update={"replicas": 2, "pools": {"small": 2}, "memory": 2**31})
            }
        )
        for arm in found.arms
    )
    return found.model_copy(update={"arms": arms, "spec": found.spec.model_copy(update={"resources": resources})})


def rendered(plan: DeploymentPlan, **options: Any) -> dict[str, Any]:
    return inference_service(
        plan,
        "late",
        "image:1",
        {"name": "plan", "configMap": {"name": "p"}},
        [],
        KserveOptions.model_validate({"models": "s3://b/m", **options}),
        Part(need_of_all(plan), plan.spec.resources.headroom),
    )


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_the_pool_is_where_it_runs_and_the_limit_of_its_growth(
    mode: str, plan: DeploymentPlan, check: Any, tmp_path: Path
) -> None:
    yours = tmp_path / "mine.yaml"
    yours.write_text(
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n"
        f"metadata: {{name: late, annotations: {{serving.kserve.io/deploymentMode: {mode}}}}}\n"
        "spec: {predictor: {nodeSelector: {zone: a}}}\n"
    )
    manifest = rendered(plan, **{"from": yours})
    check(manifest)
    assert [found for rule in RULES for found in rule(manifest)] == []
    predictor = manifest["spec"]["predictor"]
    assert predictor["nodeSelector"] == {"pool": "small", "zone": "a"}
    assert predictor["tolerations"] == [{"key": "serving", "operator": "Exists", "effect": "NoSchedule"}]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 5)
    (term,) = predictor["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    expected = {"Standard": ("cpu", 80), "Knative": ("rps", 50)}[mode]
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == expected


def test_without_pools_nothing_is_added(deployment: Path) -> None:
    predictor = rendered(DeploymentDirectory.open(deployment).plan)["spec"]["predictor"]
    assert not {"nodeSelector", "tolerations", "affinity", "scaleMetric"} & set(predictor)
