"""Each rule of KServe's webhook, with a manifest that breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from lepton_kserve.rules import RULES, findings


def _predictor(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["spec"]["predictor"].update(fields)


def _without_containers(**fields: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["spec"]["predictor"].pop("containers")
        manifest["spec"]["predictor"].update(fields)

    return change


def _renamed(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["metadata"].update(name=name)


def _mounts(*items: tuple[str, str]) -> Callable[[dict[str, Any]], None]:
    return _predictor(storageUris=[{"uri": uri, "mountPath": path} for uri, path in items])


def _scaled(scaler: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] = scaler
        manifest["spec"]["predictor"].update(fields)

    return change


def _keda(kind: str, **metric: Any) -> Callable[[dict[str, Any]], None]:
    return _scaled("keda", autoScaling={"metrics": [{"type": kind, kind.lower(): metric}]})


def _python_path(manifest: dict[str, Any]) -> None:
    manifest["spec"]["predictor"]["containers"][0]["env"] = [{"name": "PYTHONPATH", "value": "/opt"}]


def _canaries(*canaries: dict[str, Any], mode: str = "Standard", **stable: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        _moded(mode)(manifest)
        manifest["spec"]["canary"] = list(canaries)
        manifest["spec"]["predictor"].pop("containers")
        manifest["spec"]["predictor"]["model"] = {"modelFormat": {"name": "sklearn"}}
        manifest["spec"]["predictor"].update(stable)

    return change


def _moded(mode: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = mode
        manifest["spec"]["predictor"].update(fields)

    return change


def _storage_variable(manifest: dict[str, Any]) -> None:
    manifest["spec"]["predictor"]["containers"][0]["env"] = [{"name": "STORAGE_URI", "value": "s3://b/m"}]


def _canary(name: str, percent: int = 10, **fields: Any) -> dict[str, Any]:
    return {"predictor": {"name": name, **fields}, "trafficPercent": percent}


BREAKING = [
    ("name_is_a_label", _renamed("9flights")),
    ("name_is_a_label", _renamed("flights_model")),
    ("name_is_a_label", _renamed("flights-")),
    ("one_implementation", _without_containers()),
    ("one_implementation", _predictor(sklearn={"storageUri": "s3://b/m"}, storageUris=None)),
    ("standard_predictors_have_no_name", _without_containers(model={"name": "mine"})),
    ("one_kind_of_storage", _without_containers(model={"storageUri": "s3://b/m"})),
    ("one_kind_of_storage", _storage_variable),
    ("mount_paths_are_safe", _mounts(("s3://b/m", "/"))),
    ("mount_paths_are_safe", _mounts(("s3://b/m", "/mnt/../etc"))),
    ("mounts_share_a_parent", _mounts(("s3://b/1", "/mnt/1"), ("s3://b/2", "/opt/2"))),
    ("volumes_have_their_own_mounts", _mounts(("pvc://c/1", "/mnt/1"), ("pvc://c/2", "/mnt/1"))),
    ("no_python_path", _python_path),
    (
        "no_python_path",
        _predictor(initContainers=[{"name": "first", "env": [{"name": "PYTHONPATH", "value": "/opt"}]}]),
    ),
    ("replicas_are_ordered", _predictor(minReplicas=3, maxReplicas=2)),
    ("replicas_are_ordered", _predictor(minReplicas=-1)),
    ("concurrency_is_not_negative", _predictor(containerConcurrency=-1)),
    ("the_scaler_is_known", _scaled("vpa")),
    ("the_scaler_knows_the_metric", _scaled("hpa", scaleMetric="rps")),
    ("the_scaler_knows_the_metric", _scaled("hpa", scaleMetric="cpu", scaleTarget=150)),
    ("keda_takes_no_scale_metric", _scaled("keda", scaleMetric="cpu")),
    ("keda_metrics_are_whole", _keda("Resource", name="cpu", target={"type": "Value", "value": "1"})),
    ("keda_metrics_are_whole", _keda("Resource", name="cpu", target={"type": "Utilization", "averageUtilization": 0})),
    ("keda_metrics_are_whole", _keda("External", metric={"query": "up"}, target={"type": "Value"})),
    ("keda_metrics_are_whole", _keda("PodMetric", metric={}, target={"type": "Value", "value": "1"})),
    ("knative_scales_on_requests", _moded("Knative", scaleMetric="cpu")),
    ("knative_scales_on_requests", _moded("Knative", deploymentStrategy={"type": "Recreate"})),
    ("canaries_stand_beside_a_model", _canaries(_canary("two"), mode="Knative")),
    ("canaries_stand_beside_a_model", lambda manifest: manifest["spec"].update(canary=[_canary("two")])),
    ("canaries_are_named", _canaries(_canary(""))),
    ("canaries_are_named", _canaries(_canary("two"), _canary("two"))),
    ("canaries_are_named", _canaries(_canary("one"), name="one")),
    ("canaries_leave_traffic", _canaries(_canary("two", 60), _canary("three", 50))),
    ("canaries_do_not_scale", _canaries(_canary("two", maxReplicas=3))),
    ("canaries_do_not_scale", _canaries(_canary("two", minReplicas=2), minReplicas=1)),
]


@pytest.mark.parametrize(("rule", "change"), BREAKING)
def test_a_manifest_that_breaks_one_rule(rule: str, change: Any, manifest: dict[str, Any]) -> None:
    assert findings(manifest) == []
    broken = copy.deepcopy(manifest)
    change(broken)
    found = {each.__name__: list(each(broken)) for each in RULES}
    assert [name for name, lines in found.items() if lines] == [rule]
    assert all("expected" in line or "blocks" in line for line in found[rule])


def test_every_rule_is_broken_by_a_manifest() -> None:
    assert {rule for rule, _ in BREAKING} == {rule.__name__ for rule in RULES}
