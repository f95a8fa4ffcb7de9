"""A request's decisions, or feedback, as a CloudEvent in HTTP's binary mode (CloudEvents 1.0, HTTP binding 3.1).

The attributes are those that KServe's logger sends (`inferenceservicename`, `namespace`, `component`, `endpoint`),
with the versions that answered (`modelversion`) and the plan (`leptonplan`). The types are Lepton's own: the data
are decisions, not the payloads that KServe's `org.kubeflow.serving.inference.*` carry.
"""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np

from lepton_plugins.records.decision import Feedback
from lepton_plugins.routing.decision_lines import encode_block
from lepton_plugins.routing.store import DecisionBlock

DECISIONS = "io.lepton.inference.decisions"
FEEDBACK = "io.lepton.inference.feedback"

#: What may stand in a header as it is: printable ASCII but space, double quote and percent.
_PLAIN = "".join(map(chr, range(0x21, 0x7F))).translate({ord('"'): None, ord("%"): None})
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def source() -> str:
    """The process that sends: its host, as KServe's logger has its own address."""
    return f"lepton://{socket.gethostname()}"


def namespace() -> str:
    """The pod's namespace, or the one of LEPTON_NAMESPACE; empty outside of Kubernetes."""
    given = os.environ.get("LEPTON_NAMESPACE", "")
    if given or not _NAMESPACE.is_file():
        return given
    return _NAMESPACE.read_text(encoding="utf-8").strip()


def decisions_event(block: DecisionBlock, source: str, namespace: str) -> tuple[dict[str, str], bytes]:
    """Headers and body."""
    versions = ",".join(block.arms[arm] for arm in np.unique(block.served).tolist())
    attributes = {
        "type": DECISIONS,
        "id": block.request,
        "source": source,
        "time": _time(block.time),
        "inferenceservicename": block.model,
        "namespace": namespace,
        "component": "predictor",
        "endpoint": "default",
        "modelversion": versions,
        "leptonplan": block.plan,
    }
    return _headers(attributes), encode_block(block).rstrip(b"\n")


def feedback_event(item: Feedback, source: str, namespace: str, now: float) -> tuple[dict[str, str], bytes]:
    """Headers and body; the event's id is the decision's: feedback counts once."""
    attributes = {
        "type": FEEDBACK,
        "id": item.decision,
        "source": source,
        "time": _time(item.time if item.time is not None else now),
        "namespace": namespace,
        "component": "predictor",
    }
    return _headers(attributes), item.model_dump_json(exclude_none=True).encode()


def _headers(attributes: dict[str, str]) -> dict[str, str]:
    told = {f"ce-{name}": quote(value, safe=_PLAIN) for name, value in attributes.items() if value}
    return {"ce-specversion": "1.0", **told, "content-type": "application/json"}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
