"""Records what a real Kubernetes API server answers to the requests that Lepton's deployer makes, and to wrong ones.

    python tests/adapters/lepton_kserve/record.py KUBECONFIG > tests/adapters/lepton_kserve/data/answers.json

The kubeconfig's user must be a cluster's administrator. The cluster must know KServe's InferenceService (its CRD) and
run no controller of KServe's, which would answer, too; the namespace `lepton-recording` is made and deleted again. What
differs from run to run is written alike: uids and versions by their order, times and managedFields not at all.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

NAMESPACE = "lepton-recording"
NOBODY, STRANGER = "lepton-nobody", "no-token-of-this-cluster"
GROUP = "/apis/serving.kserve.io/v1beta1/namespaces"
SERVICES, SERVICE = f"{GROUP}/{NAMESPACE}/inferenceservices", f"{GROUP}/{NAMESPACE}/inferenceservices/line"
MAPS, MAP = f"/api/v1/namespaces/{NAMESPACE}/configmaps", f"/api/v1/namespaces/{NAMESPACE}/configmaps/line-plan-1"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/line-predictor"

Step = dict[str, Any]
#: (method, path, headers, body) -> (status, content type, body)
Send = Callable[[str, str, dict[str, str], bytes], tuple[int, str, bytes]]


def _service(**predictor: Any) -> dict[str, Any]:
    container = {"name": "kserve-container", "image": "registry.example/line:1", "args": ["--port", "8080"]}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "line", "annotations": {"lepton.plan": "sha256:1"}},
        "spec": {"predictor": {"containers": [container], "minReplicas": 1, "maxReplicas": 2, **predictor}},
    }


def _map(plan: str) -> dict[str, Any]:
    owner = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": "line", "uid": "UID-1"}
    metadata = {"name": "line-plan-1", "labels": {"app": "line"}, "ownerReferences": [owner]}
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    return {**content, "immutable": True, "data": {"plan.json": plan}}


def _deployment() -> dict[str, Any]:
    labels = {"app": "line"}
    pod = {"containers": [{"name": "kserve-container", "image": "registry.example/line:1"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "line-predictor"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _apply(path: str, body: Any, manager: str | None = "lepton", *, force: bool = False, **more: Any) -> Step:
    query = f"?fieldManager={manager}&force={str(force).lower()}&fieldValidation=Strict" if manager else ""
    kind = "application/apply-patch+yaml"
    return {"method": "PATCH", "path": path + query, "content_type": kind, "body": body, **more}


def _merge(path: str, body: Any) -> Step:
    return {"method": "PATCH", "path": path, "content_type": "application/merge-patch+json", "body": body}


def _get(path: str, **more: Any) -> Step:
    return {"method": "GET", "path": path, **more}


def _delete(path: str, **more: Any) -> Step:
    return {"method": "DELETE", "path": path, **more}


_READY = {
    "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}], "url": "http://line"}
}
_ELSEWHERE = SERVICE.replace(NAMESPACE, "lepton-nowhere")
_SINCE = "watch=true&fieldSelector=metadata.name%3Dline&timeoutSeconds=1&resourceVersion="

STEPS: dict[str, Step] = {
    "read what is not there": _get(SERVICE),
    "list where nothing is": _get(SERVICES),
    "apply a new service": _apply(SERVICE, _service()),
    "apply it again": _apply(SERVICE, _service()),
    "read it": _get(SERVICE),
    "list it": _get(SERVICES),
    "apply a change": _apply(SERVICE, _service(timeout=60)),
    "apply a field less": _apply(SERVICE, _service()),
    "the controller says ready": _merge(SERVICE + "/status", _READY),
    "watch from the beginning": _get(f"{SERVICES}?{_SINCE}{{apply a new service}}"),
    "watch from a version that is too old": _get(f"{SERVICES}?{_SINCE}1"),
    "another takes two fields": _apply(
        SERVICE,
        {**_service(), "metadata": {"name": "line"}, "spec": {"predictor": {"minReplicas": 4, "maxReplicas": 9}}},
        "autoscaler",
        force=True,
    ),
    "apply against another": _apply(SERVICE, _service(maxReplicas=9)),
    "apply against another twice": _apply(SERVICE, _service()),
    "apply with force": _apply(SERVICE, _service(), force=True),
    "apply a value of another type": _apply(SERVICE, _service(minReplicas="three")),
    "apply a value that is none of those": _apply(SERVICE, _service(scaleMetric="luck")),
    "apply two wrong values": _apply(SERVICE, _service(scaleMetric="luck", storageUris=[{"uri": ""}])),
    "apply a field that is unknown": _apply(SERVICE, _service(autoscaling={})),
    "apply without what is required": _apply(
        SERVICE.replace("/line", "/other"), {**_service(), "metadata": {"name": "other"}, "spec": {"transformer": {}}}
    ),
    "apply as no manager": _apply(SERVICE, _service(), manager=None),
    "apply under another name": _apply(SERVICE.replace("/line", "/other"), _service()),
    "send another content": {**_apply(SERVICE, _service()), "content_type": "text/plain"},
    "apply in no namespace": _apply(_ELSEWHERE, _service()),
    "read in no namespace": _get(_ELSEWHERE),
    "read as nobody": _get(SERVICE, user=NOBODY),
    "list as nobody": _get(SERVICES, user=NOBODY),
    "watch as nobody": _get(f"{SERVICES}?{_SINCE}1", user=NOBODY),
    "apply as nobody": _apply(SERVICE, _service(), user=NOBODY),
    "delete as nobody": _delete(SERVICE, user=NOBODY),
    "apply a plan as nobody": _apply(MAP, _map("{}"), user=NOBODY),
    "read as a stranger": _get(SERVICE, user=STRANGER),
    "read what is not installed": _get(SERVICE.replace("v1beta1", "v9")),
    "apply a plan": _apply(MAP, _map("{}")),
    "apply another plan in its place": _apply(MAP, _map("[]")),
    "list plans by label": _get(MAPS + "?labelSelector=app%3Dline"),
    "list plans by another label": _get(MAPS + "?labelSelector=app%3Dother"),
    "delete the plan": _delete(MAP),
    "delete the plan again": _delete(MAP),
    "read pods' deployment that is not there": _get(DEPLOYMENT),
    "make a deployment": _apply(DEPLOYMENT, _deployment(), "controller"),
    "read the deployment as nobody": _get(DEPLOYMENT, user=NOBODY),
    "hold it": _merge(SERVICE, {"metadata": {"finalizers": ["inferenceservice.finalizers/held"]}}),
    "delete what is held": _delete(SERVICE),
    "read what is being deleted": _get(SERVICE),
    "let it go": _merge(SERVICE, {"metadata": {"finalizers": None}}),
    "read what is gone": _get(SERVICE),
    "apply it anew": _apply(SERVICE, _service()),
    "delete it": _delete(SERVICE),
    "delete it again": _delete(SERVICE),
}


def replay(steps: dict[str, Step], send: Send) -> Iterator[tuple[str, dict[str, Any]]]:
    """Send each step; its name with status, content type and body, in which what changes from run to run is alike."""
    versions: dict[str, str] = {}
    alike = Alike()
    for name, step in steps.items():
        path = step["path"]
        for other, version in versions.items():
            path = path.replace(f"{{{other}}}", version)
        headers = {"content-type": step["content_type"]} if "content_type" in step else {}
        headers |= {"user": step["user"]} if "user" in step else {}
        content = b"" if "body" not in step else alike.real(json.dumps(step["body"])).encode()
        status, kind, body = send(step["method"], path, headers, content)
        lines = body.decode().splitlines() if "watch=true" in path and status == 200 else [body.decode()]
        found = [json.loads(line) if "json" in kind else line for line in lines]
        versions[name] = str((found[0].get("metadata") or {}).get("resourceVersion")) if "json" in kind else ""
        told = [alike(item) for item in found]
        yield name, {"status": status, "content_type": kind, "body": told if "watch=true" in path else told[0]}


class Alike:
    """Gives what a server made up a name by its order: uids and versions; times and managedFields go."""

    def __init__(self) -> None:
        self.names: dict[str, dict[str, str]] = {"uid": {}, "resourceVersion": {}}

    def __call__(self, item: Any) -> Any:
        if isinstance(item, list):
            return [self(part) for part in item]
        if not isinstance(item, dict):
            return item
        found = {}
        for key, value in item.items():
            if key == "managedFields":
                continue
            if key in self.names and isinstance(value, str):
                known = self.names[key]
                found[key] = known.setdefault(value, f"{'UID' if key == 'uid' else 'VERSION'}-{len(known) + 1}")
            elif key.endswith("Timestamp") or key.endswith("Time"):
                found[key] = "TIME" if value else value
            elif key == "message":
                found[key] = re.sub(r"(too old resource version: \d+) \(\d+\)", r"\1 (NEWER)", str(value))
            else:
                found[key] = self(value)
        return found

    def real(self, text: str) -> str:
        """The other way: a body that names a uid by its order has the real one."""
        for uid, name in self.names["uid"].items():
            text = text.replace(f'"{name}"', f'"{uid}"')
        return text


def main(kubeconfig: str) -> None:
    from kubernetes import client, config

    api = config.new_client_from_config(config_file=kubeconfig)
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": NAMESPACE}})

    def send(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        given: dict[str, str] = {"accept": "application/json"}
        given |= {item["key"]: item["value"] for item in api.configuration.auth_settings().values()}
        user = headers.pop("user", None)
        if user == STRANGER:
            given["authorization"] = f"Bearer {STRANGER}"
        elif user is not None:
            given["impersonate-user"] = user
        url = api.configuration.host + path
        answer = api.rest_client.pool_manager.request(method, url, headers={**given, **headers}, body=body or None)
        return answer.status, answer.headers["content-type"], answer.data

    try:
        time.sleep(2)  # Its default objects are made.
        answers = dict(replay(STEPS, send))
    finally:
        core.delete_namespace(NAMESPACE)
    server = client.VersionApi(api).get_code().git_version
    steps = [{"name": name, **step, "answer": answers[name]} for name, step in STEPS.items()]
    found = {"server": server, "steps": steps}
    json.dump(found, sys.stdout, indent=1, sort_keys=True, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main(sys.argv[1])
