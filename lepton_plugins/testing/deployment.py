"""A small, real deployment directory to try things on."""

from __future__ import annotations

import base64
import shutil
import struct
from pathlib import Path

from lepton_plugins.canonical import digest_tree
from lepton_plugins.records.plan import Allocation, Arm, DeploymentPlan, PolicyDocument
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.records.spec import PlanSpec, PolicySpec
from lepton_plugins.routing.directory import MODELS, digest_hex, write_plan

#: An ONNX graph (opset 13): y = w·x + b, with x of shape (rows, 1); where its two figures stand in it.
_LINE = base64.b64decode(
    "CAgSADpqCg4KAXgKAXcSAXAiA011bAoOCgFwCgFiEgF5IgNBZGQSBGxpbmUqDQgBEAFCAXdKBAAAAEAqDQgBEAFCAWJKBAAAgD9aEQoBeBIM"
    "CgoIARIGCgAKAggBYhEKAXkSDAoKCAESBgoACgIIAUIECgAQDQ=="
)
_SLOPE, _OFFSET = 55, 70


def write_deployment(to: Path, model: str = "line") -> DeploymentPlan:
    """Write a deployment directory with two versions of y = w·x + b, 60 to 40 %, sticky by `unit`."""
    signature = Signature(inputs=(Field(name="x", dtype="float32"),), outputs=(Field(name="y", dtype="float32"),))
    arms = tuple(
        _arm(to, model, version, slope, offset, share, signature)
        for version, slope, offset, share in (("1", 2.0, 1.0, 0.6), ("2", 3.0, -1.0, 0.4))
    )
    slots = [["1", 39_322], ["2", 26_214]]
    spec = PlanSpec.model_validate(
        {
            "model": model,
            "policy": PolicySpec(kind="weighted", params={"shares": {"1": 0.6, "2": 0.4}}),
            "around": {"sticky": {"key": "unit"}},
        }
    )
    plan = DeploymentPlan(
        model=model,
        salt="00" * 16,
        output="value",
        signature=Signature(inputs=(*signature.inputs, Field(name="unit", dtype="str", required=False))),
        arms=arms,
        default="1",
        policy=PolicyDocument(kind="weighted", params=spec.policy.params, document={"slots": slots}),
        around=spec.around,
        allocation=Allocation(solver="fixed", status="fixed"),
        spec=spec,
    )
    write_plan(plan, {}, to)
    return plan


def place_version(files: Path, directory: Path) -> str:
    """Move a version's folder of `files` to its place in a deployment directory; their digest, which names it there.

    Files that are there already, another version's, stay; the folder goes.
    """
    digest = digest_tree(files)
    home = directory / MODELS / digest_hex(digest, directory)
    if home.exists():
        shutil.rmtree(files)
    else:
        home.parent.mkdir(parents=True, exist_ok=True)
        files.rename(home)
    return digest


def _arm(to: Path, model: str, version: str, slope: float, offset: float, share: float, signature: Signature) -> Arm:
    graph = bytearray(_LINE)
    struct.pack_into("<f", graph, _SLOPE, slope)
    struct.pack_into("<f", graph, _OFFSET, offset)
    written = to / f".{version}"
    written.mkdir(parents=True)
    (written / "model.onnx").write_bytes(graph)
    digest = place_version(written, to)
    return Arm(
        version=version,
        uri=f"models:/{model}/{version}",
        artifact_digest=digest,
        framework="onnx",
        backend="onnxruntime",
        format="onnx",
        signature=signature,
        share=share,
    )
