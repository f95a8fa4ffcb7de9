"""Whether the pods of an InferenceService run what was applied: its predictor's Deployment or Knative Service.

KServe's own status doesn't say it: `observedGeneration` is that of the object below, and in Standard mode Ready stays
True while pods are replaced. Sources: KServe `inference_service_status.go` (PropagateRawStatus, PropagateStatus) and
`constants.go` (PredictorServiceName); kubectl `rollout_status.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lepton_kserve.rules import KNATIVE_MODES, MODE

CONTAINER = "kserve-container"


def is_knative(service: Mapping[str, Any]) -> bool:
    """Whether a Knative Service is below it, and not a Deployment."""
    status, annotations = service.get("status") or {}, service["metadata"].get("annotations") or {}
    return (status.get("deploymentMode") or annotations.get(MODE)) in KNATIVE_MODES


def workload_name(service: Mapping[str, Any]) -> str:
    """Of the object below: the predictor may have a name of its own."""
    own = service["spec"]["predictor"].get("name")
    return f"{service['metadata']['name']}-{own}-predictor" if own else f"{service['metadata']['name']}-predictor"


def says_ready(service: Mapping[str, Any]) -> bool:
    """Whether KServe says Ready: of some generation, not of the newest."""
    return _true(service.get("status") or {}, "Ready")


def why_not_ready(service: Mapping[str, Any]) -> str:
    """Why it isn't ready, in the controller's words."""
    status = service.get("status") or {}
    pending = [condition for condition in status.get("conditions") or () if condition.get("status") != "True"]
    said = [f"{item.get('type')}: {item.get('reason') or ''} {item.get('message') or ''}" for item in pending]
    failure = ((status.get("modelStatus") or {}).get("lastFailureInfo") or {}).get("message")
    return "; ".join(" ".join(part.split()) for part in [*said, *([failure] if failure else [])])[:600].rstrip(".")


def unfinished(service: Mapping[str, Any], workload: Mapping[str, Any]) -> str:
    """What is missing until every pod runs the service as it is; empty where nothing is."""
    status, name = workload.get("status") or {}, workload["metadata"]["name"]
    seen = int(status.get("observedGeneration") or 0) >= int(workload["metadata"].get("generation") or 0)
    if not seen or not _taken_over(service["spec"]["predictor"], workload["spec"]["template"]["spec"]):
        return f"{name}: waiting for KServe to take it over"
    if is_knative(service):
        return "" if _true(status, "Ready") else f"{name}: the new revision isn't ready"
    wanted = int(workload["spec"].get("replicas", 1))
    pods, new, available = (int(status.get(key) or 0) for key in ("replicas", "updatedReplicas", "availableReplicas"))
    if new < wanted:
        return f"{name}: {new} of {wanted} pods are new"
    if pods > new:
        return f"{name}: {pods - new} pods of before still run"
    return "" if available >= new else f"{name}: {available} of {new} pods are available"


def _taken_over(predictor: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether the pods are to run the predictor's container with the predictor's plan; KServe adds to both."""
    wanted, there = _container(predictor), _container(pod)
    volumes = predictor.get("volumes") or []
    return (
        all(wanted.get(key) == there.get(key) for key in ("image", "command", "args"))
        and all(_within(wanted.get(key), there.get(key)) for key in ("env", "envFrom"))
        and _same_resources(wanted.get("resources") or {}, there.get("resources") or {})
        and _within([item for item in volumes if "configMap" in item], pod.get("volumes"))
    )


def _container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [item for item in pod.get("containers") or () if item.get("name") == CONTAINER]
    return found[0] if found else {}


def _within(wanted: Any, there: Any) -> bool:
    """Whether all that is wanted is there; defaults and further items may be too."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(_within(item, there.get(key)) for key, item in wanted.items())
    if isinstance(wanted, list):
        return all(any(_within(item, other) for other in there or ()) for item in wanted)
    return wanted is None or wanted == there


def _same_resources(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    from kubernetes.utils.quantity import parse_quantity

    return all(
        parse_quantity(item) == parse_quantity((there.get(kind) or {}).get(key, -1))
        for kind in ("requests", "limits")
        for key, item in (wanted.get(kind) or {}).items()
    )


def _true(status: Mapping[str, Any], kind: str) -> bool:
    return any(item.get("type") == kind and item.get("status") == "True" for item in status.get("conditions") or ())
