"""A cluster's refusals in one line each: what it said, and what to do.

Source: Kubernetes API conventions, "Response Status Kind" (reason, details.causes) and "Server-Side Apply",
"Conflicts".
"""

from __future__ import annotations

import json
import re
from typing import Any

from lepton_plugins.errors import ClusterRefused

_MANAGER = re.compile(r'conflict with "([^"]+)"')


def refused(error: Any, action: str) -> ClusterRefused:
    """The sentence for an ApiException of the Kubernetes client."""
    status = _status(error.body)
    message = " ".join(str(status.get("message") or error.reason or "").split())[:600].rstrip(".")
    causes = (status.get("details") or {}).get("causes") or []
    return ClusterRefused(
        int(error.status or 500), action, _sentence(int(error.status or 500), status, message, causes)
    )


def _sentence(code: int, status: dict[str, Any], message: str, causes: list[dict[str, Any]]) -> str:
    if code == 401:
        return "it doesn't know you (401). Log in again, or check the user of the kubeconfig's current context."
    if code == 403 and "denied the request" not in message:
        return f"you may not (403): {message}. Ask for it, or name another namespace: -t lepton-kserve:/NAMESPACE"
    if code == 404 and status.get("kind") != "Status":
        return (
            "it doesn't know InferenceServices (404): KServe isn't installed there, or not with v1beta1. "
            "`kubectl get crd inferenceservices.serving.kserve.io` shows it."
        )
    if code == 404 and (status.get("details") or {}).get("kind") == "namespaces":
        name = (status.get("details") or {}).get("name")
        return f"there is no namespace {name!r} (404). Make it: kubectl create namespace {name}"
    if code == 409 and any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
        found = [f"{cause.get('field')} ({_manager(cause)})" for cause in causes]
        return (
            f"others manage fields that the plan sets (409): {', '.join(found[:8])}. Take them over with "
            "-C force=true, or let the other manager give them up."
        )
    if code == 422:
        found = [f"{cause.get('field')}: {cause.get('message')}" for cause in causes]
        return f"it finds the manifest invalid (422): {'; '.join(found[:8]) or message}."
    if "field not declared in schema" in message:  # Answered with 500 by servers until at least 1.36.
        return f"its KServe doesn't know a field that the manifest has, it may be older: {message} ({code})."
    return f"{message or 'no reason given'} ({code})."


def _manager(cause: dict[str, Any]) -> str:
    found = _MANAGER.search(str(cause.get("message")))
    return f"by {found[1]}" if found else str(cause.get("message"))


def _status(body: Any) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
