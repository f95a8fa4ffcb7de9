"""Deployments that give answers in parts, and what is read of their streams and logs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx

from lepton_files.jsonl import LogFiles
from lepton_plugins.records.around import Around
from lepton_plugins.records.plan import Allocation, Arm, DeploymentPlan, PolicyDocument
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.records.spec import PlanSpec, PolicySpec
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.loading import find_backend
from lepton_plugins.testing.deployment import place_version

CHAT = "/v1/chat/completions"


def routed(
    path: Path,
    folders: Sequence[Path],
    inputs: tuple[Field, ...],
    by: str,
    around: Mapping[str, Any],
    layout: Literal["columns", "tensors"] = "columns",
) -> Path:
    """A deployment of these versions' files: where `by` is "1" the first answers, and so on; else the first."""
    arms = []
    for number, folder in enumerate(folders, 1):
        backend, inspection = find_backend(folder)
        digest = place_version(folder, path)
        arms.append(
            Arm(
                version=str(number),
                uri=f"models:/teller/{number}",
                source="/somewhere",
                artifact_digest=digest,
                framework=inspection.format,
                backend=backend,
                format=inspection.format,
                trust="pickle" if inspection.carries_code else None,
                signature=inspection.signature,
                share=1 / len(folders),
            )
        )
    values = [str(number) for number in range(1, len(arms) + 1)]
    cells = [
        {"value": [value], "rows": 10, "slots": [[value, 65536]], "candidates": {}, "reason": f"best in {value}"}
        for value in values
    ]
    params = {"by": [by]}
    document = PolicyDocument(kind="segment_best", params=params, features=(by,), document={"by": [by], "cells": cells})
    plan = DeploymentPlan(
        model="teller",
        salt="00112233445566778899aabbccddeeff",
        output="label",
        signature=Signature(layout=layout, inputs=(*inputs, Field(name=by, dtype="str", required=False))),
        arms=tuple(arms),
        default="1",
        policy=document,
        around=Around.model_validate(around),
        allocation=Allocation(solver="fixed", status="fixed"),
        spec=PlanSpec(model="teller", policy=PolicySpec(kind="segment_best", params=params)),
    )
    write_plan(plan, {}, path)
    return path


def events(text: str) -> list[Any]:
    """The JSON of a stream of server-sent events."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def decisions(log: str, number: int) -> list[Any]:
    """The log's decisions, once there are so many."""
    for _ in range(50):
        found = [row for block in LogFiles(log).blocks() for row in block.rows()]
        if len(found) >= number:
            return found
        time.sleep(0.1)
    return found


def ask(client: httpx.Client, said: str, **fields: Any) -> httpx.Response:
    """A chat's answer in parts, unless `fields` say otherwise."""
    body = {"model": "teller", "messages": [{"role": "user", "content": said}], "stream": True, **fields}
    return client.post(CHAT, json=body)
