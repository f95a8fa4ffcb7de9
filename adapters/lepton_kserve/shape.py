"""What an InferenceService of the user's must be made of where it is read here: mappings, lists, whole numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lepton_kserve.rules import STANDARD

_MAPPINGS: list[Any] = [{}]
_NAMED: list[Any] = [{"name": str}]
_CONTAINER: dict[str, Any] = {
    **{"name": str, "env": _NAMED, "envFrom": _MAPPINGS, "volumeMounts": [{"name": str, "mountPath": str}]},
    **{"resources": {"requests": {}, "limits": {}, "claims": _MAPPINGS}, "securityContext": {}},
}
_COMPONENT: dict[str, Any] = {
    **dict.fromkeys(("minReplicas", "maxReplicas", "containerConcurrency", "scaleTarget"), int),
    **{key: {} for key in ("affinity", "autoScaling", "nodeSelector", "securityContext", "workerSpec")},
    **dict.fromkeys(("resourceClaims", "volumes"), _NAMED),
    **{"tolerations": _MAPPINGS, "storageUris": [{"uri": str, "mountPath": str}]},
    **{key: [_CONTAINER] for key in ("containers", "initContainers")},
    **dict.fromkeys(STANDARD, _CONTAINER),
    **{"name": str, "scaleMetric": str},
}
_SERVICE: dict[str, Any] = {
    "metadata": {"name": str, "namespace": str, "annotations": {}, "labels": {}, "finalizers": [str]},
    "spec": {
        **dict.fromkeys(("predictor", "transformer", "explainer"), _COMPONENT),
        "canary": [{"predictor": _COMPONENT, "trafficPercent": int}],
    },
}
_WORDS = {dict: "a mapping", list: "a list", int: "a whole number", str: "text"}


def without_nulls(value: Any) -> Any:
    """As an API server reads it: what is null isn't there."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def misshapen(service: Any) -> Iterator[tuple[str, Any, str]]:
    """The places where something else stands than can be read, what stands there, and what is expected."""
    yield from _differences(service, _SERVICE, "")


def _differences(found: Any, shape: Any, place: str) -> Iterator[tuple[str, Any, str]]:
    kind: Any = shape if isinstance(shape, type) else type(shape)
    if found is None:
        return
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        yield place, found, _WORDS[kind]
    elif isinstance(shape, dict):
        for key, item in shape.items():
            yield from _differences(found.get(key), item, f"{place}.{key}".lstrip("."))
    elif isinstance(shape, list):
        for index, item in enumerate(found):
            # An item that is left empty is no item.
            yield from _differences(item if item is not None else "", shape[0], f"{place}[{index}]")
