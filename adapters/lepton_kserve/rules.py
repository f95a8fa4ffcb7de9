"""What KServe's admission webhook refuses although the CRD's schema allows it (KServe 0.21).

Each rule takes a manifest and yields what it found against what is expected. Source: KServe's
`pkg/apis/serving/v1beta1/*_validation.go` and `inference_service_validation.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

Manifest = Mapping[str, Any]
Rule = Callable[[Manifest], Iterator[str]]

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")

#: A predictor's ready-made implementations.
STANDARD = (
    *("model", "sklearn", "xgboost", "lightgbm", "onnx", "pytorch", "tensorflow", "triton", "huggingface"),
    *("paddle", "pmml"),
)
#: The environment variable that is a custom predictor's storageUri.
STORAGE_URI = "STORAGE_URI"
MODE = "serving.kserve.io/deploymentMode"
_SCALER = "serving.kserve.io/autoscalerClass"
STANDARD_MODES = ("Standard", "RawDeployment")
_SCALERS = ("hpa", "keda", "external", "none")
_HPA_METRICS = ("cpu", "memory")
KNATIVE_MODES = ("Knative", "Serverless")
_KNATIVE_CLASS = "autoscaling.knative.dev/class"
_KNATIVE_METRICS = ("concurrency", "rps")


def findings(manifest: Manifest) -> list[str]:
    """Everything the webhook would refuse; empty where it would admit the manifest."""
    return [found for rule in RULES for found in rule(manifest)]


def _predictor(manifest: Manifest) -> Mapping[str, Any]:
    found: Mapping[str, Any] = manifest["spec"]["predictor"]
    return found


def _components(manifest: Manifest) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in ("predictor", "transformer", "explainer"):
        if component := manifest["spec"].get(name):
            yield name, component


def _annotation(manifest: Manifest, name: str, default: str) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(name, default))


def name_is_a_label(manifest: Manifest) -> Iterator[str]:
    name = str(manifest["metadata"].get("name", ""))
    if not NAME.fullmatch(name):
        yield f"metadata.name: found {name!r}, expected lower-case letters, digits and '-', a letter first"


def one_implementation(manifest: Manifest) -> Iterator[str]:
    predictor = _predictor(manifest)
    found = [name for name in (*STANDARD, "containers") if predictor.get(name)]
    if len(found) != 1:
        yield f"spec.predictor: found {' and '.join(found) or 'none'}, expected exactly one implementation"


def standard_predictors_have_no_name(manifest: Manifest) -> Iterator[str]:
    predictor = _predictor(manifest)
    for kind in STANDARD:
        if predictor.get(kind) and "name" in predictor[kind]:
            yield f"spec.predictor.{kind}.name: found one, expected none"


def one_kind_of_storage(manifest: Manifest) -> Iterator[str]:
    for name, component in _components(manifest):
        single = any((component.get(kind) or {}).get("storageUri") for kind in STANDARD) or any(
            variable.get("name") == STORAGE_URI
            for container in component.get("containers") or ()
            if container.get("name") == "kserve-container"
            for variable in container.get("env") or ()
        )
        if single and component.get("storageUris"):
            yield f"spec.{name}: found storageUri and storageUris, expected one of them"


def mount_paths_are_safe(manifest: Manifest) -> Iterator[str]:
    for name, component in _components(manifest):
        for item in component.get("storageUris") or ():
            path = item.get("mountPath", "/mnt/models")
            if path.rstrip("/") == "" or ".." in PurePosixPath(path).parts or not path.startswith("/"):
                yield f"spec.{name}.storageUris: found the mountPath {path!r}, expected a folder below / without .."


def mounts_share_a_parent(manifest: Manifest) -> Iterator[str]:
    for name, component in _components(manifest):
        uris = component.get("storageUris") or ()
        paths = [PurePosixPath(item.get("mountPath", "/mnt/models")) for item in uris if not _is_pvc(item)]
        if len(paths) > 1:
            shared = set.intersection(*({path, *path.parents} for path in paths)) - {PurePosixPath("/")}
            if not shared:
                yield f"spec.{name}.storageUris: found {', '.join(map(str, paths))}, expected one parent other than /"


def volumes_have_their_own_mounts(manifest: Manifest) -> Iterator[str]:
    for name, component in _components(manifest):
        paths = [item.get("mountPath", "/mnt/models") for item in component.get("storageUris") or () if _is_pvc(item)]
        for path in sorted({path for path in paths if paths.count(path) > 1}):
            yield f"spec.{name}.storageUris: found the mountPath {path} twice among pvc:// ones, expected each once"


def _is_pvc(item: Mapping[str, Any]) -> bool:
    return str(item.get("uri", "")).startswith("pvc://")


def no_python_path(manifest: Manifest) -> Iterator[str]:
    for name, component in _components(manifest):
        own = [component[kind] for kind in STANDARD if component.get(kind)]
        for container in [*(component.get("initContainers") or ()), *(component.get("containers") or ()), *own]:
            if any(variable.get("name") == "PYTHONPATH" for variable in container.get("env") or ()):
                yield f"spec.{name}: found the environment variable PYTHONPATH, which KServe blocks; expected none"


def replicas_are_ordered(manifest: Manifest) -> Iterator[str]:
    for name, component in _components(manifest):
        low, high = component.get("minReplicas", 1), component.get("maxReplicas", 0)
        if low < 0 or high < 0 or (high and low > high):
            yield f"spec.{name}: found minReplicas {low} and maxReplicas {high}, expected 0 ≤ minReplicas ≤ maxReplicas"


def concurrency_is_not_negative(manifest: Manifest) -> Iterator[str]:
    for name, component in _components(manifest):
        if (found := component.get("containerConcurrency", 0)) < 0:
            yield f"spec.{name}.containerConcurrency: found {found}, expected 0 or more"


def the_scaler_is_known(manifest: Manifest) -> Iterator[str]:
    if (found := _annotation(manifest, _SCALER, "hpa")) not in _SCALERS:
        yield f"metadata.annotations: found {_SCALER} {found!r}, expected one of {', '.join(_SCALERS)}"


def the_scaler_knows_the_metric(manifest: Manifest) -> Iterator[str]:
    if _annotation(manifest, MODE, "") not in STANDARD_MODES or _annotation(manifest, _SCALER, "hpa") != "hpa":
        return
    for name, component in _components(manifest):
        metric, target = component.get("scaleMetric"), component.get("scaleTarget")
        if metric is not None and metric not in _HPA_METRICS:
            yield f"spec.{name}.scaleMetric: found {metric!r}, expected one of {', '.join(_HPA_METRICS)} with hpa"
        if metric in (None, "cpu") and target is not None and not 0 < target <= 100:
            yield f"spec.{name}.scaleTarget: found {target}, expected 1 to 100 per cent of CPU"


def keda_takes_no_scale_metric(manifest: Manifest) -> Iterator[str]:
    if _annotation(manifest, MODE, "") not in STANDARD_MODES or _annotation(manifest, _SCALER, "hpa") != "keda":
        return
    for name, component in _components(manifest):
        if "scaleMetric" in component:
            yield f"spec.{name}.scaleMetric: found it with keda, expected autoScaling.metrics"


def keda_metrics_are_whole(manifest: Manifest) -> Iterator[str]:
    if _annotation(manifest, MODE, "") not in STANDARD_MODES or _annotation(manifest, _SCALER, "hpa") != "keda":
        return
    for name, component in _components(manifest):
        for metric in (component.get("autoScaling") or {}).get("metrics") or ():
            place, kind = f"spec.{name}.autoScaling.metrics", metric["type"]
            given = metric.get(kind.lower()) or {}
            target = given.get("target") or {}
            if kind == "Resource" and target.get("type") != "Utilization" and given.get("name") == "cpu":
                yield f"{place}: found the target {target} of cpu, expected the type Utilization"
            elif kind == "Resource" and not 0 < target.get("averageUtilization", 1) <= 100:
                yield f"{place}: found averageUtilization {target['averageUtilization']}, expected 1 to 100"
            elif kind != "Resource" and ("value" not in target or not (given.get("metric") or {}).get("query")):
                yield f"{place}: found {given}, expected a query and target.value"


def knative_scales_on_requests(manifest: Manifest) -> Iterator[str]:
    by_requests = not _annotation(manifest, _KNATIVE_CLASS, "").startswith("hpa")
    if _annotation(manifest, MODE, "") not in KNATIVE_MODES or not by_requests:
        return
    for name, component in _components(manifest):
        metric = component.get("scaleMetric")
        if metric is not None and metric not in _KNATIVE_METRICS:
            expected = ", ".join(_KNATIVE_METRICS)
            yield f"spec.{name}.scaleMetric: found {metric!r}, expected one of {expected} in Knative mode"
        if component.get("deploymentStrategy"):
            yield f"spec.{name}.deploymentStrategy: found it in Knative mode, expected none"


def canaries_stand_beside_a_model(manifest: Manifest) -> Iterator[str]:
    if not manifest["spec"].get("canary"):
        return
    mode = _annotation(manifest, MODE, "")
    if mode not in STANDARD_MODES:
        yield f"spec.canary: found it in the mode {mode or 'of the cluster'}, expected {STANDARD_MODES[0]}"
    if not any(_predictor(manifest).get(kind) for kind in STANDARD):
        yield "spec.canary: found it beside a custom predictor, expected none: the plan's shares split the traffic"


def canaries_are_named(manifest: Manifest) -> Iterator[str]:
    names = [str((canary.get("predictor") or {}).get("name", "")) for canary in manifest["spec"].get("canary") or ()]
    stable = str(_predictor(manifest).get("name", ""))
    if "" in names or len(set(names)) != len(names) or (stable and stable in names):
        yield f"spec.canary: found the names {names}, expected each once, none empty, none the stable one's"


def canaries_leave_traffic(manifest: Manifest) -> Iterator[str]:
    total = sum(canary.get("trafficPercent", 0) for canary in manifest["spec"].get("canary") or ())
    if total > 100:
        yield f"spec.canary: found {total} per cent of the traffic, expected at most 100"


def canaries_do_not_scale(manifest: Manifest) -> Iterator[str]:
    least = _predictor(manifest).get("minReplicas", 1)
    for canary in manifest["spec"].get("canary") or ():
        predictor = canary.get("predictor") or {}
        for key in ("maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling"):
            if key in predictor:
                yield f"spec.canary.predictor.{key}: found it, expected fixed replicas"
        if predictor.get("minReplicas", 1) > least:
            yield f"spec.canary.predictor.minReplicas: found {predictor['minReplicas']}, expected at most {least}"


RULES: tuple[Rule, ...] = (
    name_is_a_label,
    one_implementation,
    standard_predictors_have_no_name,
    one_kind_of_storage,
    mount_paths_are_safe,
    mounts_share_a_parent,
    volumes_have_their_own_mounts,
    no_python_path,
    replicas_are_ordered,
    concurrency_is_not_negative,
    the_scaler_is_known,
    the_scaler_knows_the_metric,
    keda_takes_no_scale_metric,
    keda_metrics_are_whole,
    knative_scales_on_requests,
    canaries_stand_beside_a_model,
    canaries_are_named,
    canaries_leave_traffic,
    canaries_do_not_scale,
)
