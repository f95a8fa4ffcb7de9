"""Whatever stands in a manifest of the user's: it is rendered, or it is told what is wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lepton_kserve.shape import misshapen, without_nulls
from lepton_kserve.target import KserveTarget
from lepton_plugins.errors import LeptonError
from lepton_plugins.routing.directory import DeploymentDirectory

MINE: dict[str, Any] = yaml.safe_load("""
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  {name: m, namespace: ml, labels: {a: b}, annotations: {serving.kserve.io/autoscalerClass: hpa}, finalizers: [z]}
spec:
  predictor:
    {minReplicas: 1, maxReplicas: 3, scaleMetric: cpu, scaleTarget: 50, containerConcurrency: 3, nodeSelector: {a: b},
    tolerations: [{key: a}], affinity: {podAntiAffinity: {}}, autoScaling: {metrics: [{type: Resource}]},
    storageUris: [{uri: s3://a, mountPath: /mnt/models}], securityContext: {runAsUser: 0}, volumes: [{name: v}],
    resourceClaims: [{name: c}], initContainers: [{name: i, env: [{name: A}]}],
    containers: [{name: kserve-container, image: i, env: [{name: E, value: v}], envFrom: [{secretRef: {name: s}}],
    resources: {limits: {cpu: 1}, requests: {cpu: 1}}, securityContext: {runAsUser: 0},
    volumeMounts: [{name: v, mountPath: /v}]}, {name: side, image: j}]}
  transformer: {minReplicas: 1, containers: [{name: kserve-container, env: [{name: E}]}], storageUris: [{uri: s3://x}]}
  canary: [{trafficPercent: 3, predictor: {name: two, minReplicas: 1, model: {env: [{name: a}]}}}]
""")


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


@given(
    place=st.sampled_from(list(places(MINE))),
    there=st.sampled_from(["text", 3, None, True, [], {}, ["x"], [None], {"k": "v"}, 1.5]),
)
@example(place=("spec", "predictor", "minReplicas"), there=None)
@example(place=("spec", "predictor", "containers", 0, "env"), there="text")
@example(place=("spec", "canary", 0, "predictor"), there=None)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_rendered_or_told(place: tuple[Any, ...], there: Any, deployment: Path, tmp_path: Path) -> None:
    mine = copy.deepcopy(MINE)
    if place[:2] != ("spec", "canary"):
        del mine["spec"]["canary"]
    part = mine
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = there
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    given = {"models": "s3://b/m", "from": tmp_path / "mine.yaml", "lepton_requirement": "lepton-plugins==0.1.0"}
    options = KserveTarget.Options.model_validate(given)
    (to := tmp_path / f"to-{len(list(tmp_path.iterdir()))}").mkdir()
    told = ""
    try:
        KserveTarget().render(DeploymentDirectory.open(deployment).plan, deployment, to, options)
    except LeptonError as error:
        told = str(error)
    assert not told or any(word in told for word in ("--from", "KServe would refuse", "InferenceService"))


def test_nulls_are_not_there_and_the_rest_is() -> None:
    assert without_nulls({"a": None, "b": [{"c": None, "d": 1}, 2]}) == {"b": [{"d": 1}, 2]}
    assert list(misshapen(MINE)) == []
