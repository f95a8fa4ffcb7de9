"""One plan behind every target, and what the router in Python says of the same rows.

Each server is started once, by the file of what it belongs to: in an environment without Lepton where it is a target's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
import pytest

from lepton_plugins.canonical import digest_tree
from lepton_plugins.records.plan import DeploymentPlan, PolicyDocument
from lepton_plugins.records.signature import Field
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import write_deployment

ROWS = 1000
#: What `write_deployment` makes the versions of: y = w·x + b.
LINES = {"1": (2.0, 1.0), "2": (3.0, -1.0)}


class Answers(NamedTuple):
    """Of one way to ask: a version and a value for each row."""

    versions: list[str]
    values: list[float]


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Carriers decide, and within a carrier the unit's key; version 1 is an ONNX file, version 2 scikit-learn's."""
    folder = tmp_path_factory.mktemp("conformance") / "deployment"
    plan = with_scikit_learn(write_deployment(folder), folder)
    shares = {"AA": [["1", 32_768], ["2", 32_768]], "UA": [["2", 65_536]], "Ñandú": [["1", 50_000], ["2", 15_536]]}
    cells = [
        {"value": [carrier], "rows": 10, "slots": slots, "candidates": {}, "reason": f"planned for {carrier}"}
        for carrier, slots in shares.items()
    ]
    policy = PolicyDocument(
        kind="segment_best",
        params={"by": ["carrier"]},
        features=("carrier",),
        document={"by": ["carrier"], "cells": cells},
    )
    signature = plan.signature.model_copy(
        update={"inputs": (*plan.signature.inputs, Field(name="carrier", dtype="str", required=False))}
    )
    write_plan(plan.model_copy(update={"policy": policy, "signature": signature}), {}, folder)
    return folder


def with_scikit_learn(plan: DeploymentPlan, folder: Path) -> DeploymentPlan:
    """The plan with a version 2 that MLflow logged: the same line, by another backend and other packages."""
    import mlflow
    from sklearn.linear_model import LinearRegression

    x = pd.DataFrame({"x": np.array([0.0, 1.0, 2.0])})
    slope, constant = LINES["2"]
    model = LinearRegression().fit(x, slope * x["x"] + constant)
    signature = mlflow.models.infer_signature(x, model.predict(x))
    packages = [f"{name}=={version(name)}" for name in ("scikit-learn", "skops")]
    made = folder / "models" / "made"
    mlflow.sklearn.save_model(model, made, signature=signature, serialization_format="skops", pip_requirements=packages)
    digest = digest_tree(made)
    made.rename(made.with_name(digest.removeprefix("sha256:")))
    one, two = plan.arms
    shutil.rmtree(folder / "models" / two.artifact_digest.removeprefix("sha256:"))
    changed = {"artifact_digest": digest, "backend": "pyfunc", "format": "skops", "framework": "sklearn"}
    return plan.model_copy(update={"arms": (one, two.model_copy(update=changed))})


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    """Keys and carriers of all sorts: digits, other scripts, a carrier that the plan doesn't know, none."""
    random = np.random.default_rng(3)
    keys = [f"{number:04d}" if number % 3 else f"кунда-{number}" for number in range(ROWS)]
    carriers = random.choice(np.array(["AA", "UA", "Ñandú", "ZZ", None], dtype=object), ROWS)
    x = random.normal(size=ROWS).astype(np.float32).astype(np.float64)  # What a float32 input takes without a loss.
    return pd.DataFrame({"x": x, "unit": keys, "carrier": carriers})


@pytest.fixture(scope="session")
def routed(deployment: Path, rows: pd.DataFrame) -> Answers:
    """The Router in Python."""
    with Router.load(deployment) as router:
        table = router.predict(rows).table()
    return Answers(list(table["lepton_version"]), list(table["prediction"]))


@pytest.fixture(scope="session")
def agree(routed: Answers) -> Callable[[Sequence[str], Any], None]:
    """Fails where a version or a value isn't the router's, row by row."""

    def agreed(versions: Sequence[str], values: Any) -> None:
        assert list(versions) == routed.versions
        np.testing.assert_allclose(values, routed.values, atol=1e-6)

    return agreed


@pytest.fixture(scope="session")
def lines() -> dict[str, tuple[float, float]]:
    return LINES


@pytest.fixture(scope="session")
def infer_request(rows: pd.DataFrame) -> dict[str, Any]:
    """All rows in V2's words."""
    kinds = {"x": "FP64", "unit": "BYTES", "carrier": "BYTES"}
    present = {name: rows[name].fillna("") if name == "carrier" else rows[name] for name in rows}
    return {
        "inputs": [
            {"name": name, "shape": [len(rows)], "datatype": kinds[name], "data": column.tolist()}
            for name, column in present.items()
        ]
    }


@pytest.fixture(scope="session")
def agree_over_v2(infer_request: dict[str, Any], agree: Callable[[Sequence[str], Any], None]) -> Callable[[str], None]:
    """Fails where what answers V2 at an address doesn't answer as the router does."""

    def agreed(url: str) -> None:
        answer = httpx.post(f"{url}/v2/models/line/infer", json=infer_request, timeout=60)
        assert answer.status_code == 200, answer.text[:1000]
        output = answer.json()["outputs"][0]
        versions = output["parameters"]["lepton_versions"]
        agree(versions.split(",") if isinstance(versions, str) else versions, output["data"])

    return agreed
